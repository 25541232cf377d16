// Parameters with their gradients: what every layer owns, initializes and clips.
#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kernels/table.h"
#include "runtime/buffer.h"
#include "runtime/parallel.h"

namespace rnnfast::core {

struct Parameter {
    std::string name;
    std::vector<size_t> shape;
    Buffer value, grad;
    bool frozen = false;     // no optimizer moves it, and its gradient is not clipped and counts for no norm
    bool statistic = false;  // of the data, without a gradient: it is always frozen
    size_t size() const { return value.size(); }
};
// Without values, a parameter is a name and a shape: a layer that only runs packs the values of a file instead.
Parameter make_parameter(std::string name, std::vector<size_t> shape, bool values = true);
// The seed of a part of a model; a model without a seed has parameters without values.
std::optional<uint64_t> part_seed(std::optional<uint64_t> seed, uint64_t part);

// A parameter's values in a file; they point into the file if possible, else into `buffer`.
using FileValues = std::function<const float*(const Parameter& p, Buffer& buffer)>;
// Copies a file's values to a parameter that has none.
void copy_values(Parameter& p, const FileValues& values);

using Parameters = std::vector<Parameter*>;

// How far a backward is, for a thread that reads gradients alongside: those of all parameters of a model but the
// leading `unfinished` ones are complete. Backward goes from the last layer to the first, and so through the
// parameters.
struct GradientProgress {
    std::atomic<size_t>* unfinished = nullptr;
    size_t first = 0;            // the position of this layer's first parameter
    void at(size_t own) const {  // so many of this layer's parameters are unfinished
        if (unfinished) unfinished->store(first + own, std::memory_order_release);
    }
};

// Uniform in [-bound, bound), and standard normal: number i of the stream `key`.
void uniform_(Parameter& p, double bound, uint64_t key);
void uniform_(Parameter& p, Range elements, double bound, uint64_t key);
void normal_(Parameter& p, uint64_t key);

constexpr size_t chunk = 16384;  // elements a thread takes at a time; the sum of squares adds chunk by chunk

// Calls body(parameter index, first element, count) over all parameters' chunks, spread over threads.
template <class Body>
void for_each_chunk(const Parameters& parameters, Body body) {
    size_t total = 0;
    for (const Parameter* p : parameters) total += p->size();
    parallel(threads_for(4.0 * static_cast<double>(total)), [&](const Team& team) {
        size_t turn = 0;
        for (size_t i = 0; i < parameters.size(); ++i)
            for (size_t at = 0; at < parameters[i]->size(); at += chunk)
                if (turn++ % team.size == team.index) body(i, at, std::min(chunk, parameters[i]->size() - at));
    });
}

void zero_grad(const Parameters& parameters);
// start + the sum of all squared gradients, added up in double in fixed blocks, one after another: so the sum over
// several layers is that over one with all their parameters. Frozen parameters are left out here and below.
double grad_squares(const Parameters& parameters, double start = 0);
// The sums that grad_squares adds up, those of one of `of` shares; the others are 0.
std::vector<double> chunk_squares(const Parameters& parameters, size_t share, size_t of);
// Scales all gradients by max_norm / norm if their norm is larger; returns the norm before.
double clip_grad_norm(const Kernels& kernels, const Parameters& parameters, double max_norm);
void scale_grads(const Kernels& kernels, const Parameters& parameters, double factor);
void clip_grad_value(const Kernels& kernels, const Parameters& parameters, float limit);

}  // namespace rnnfast::core
