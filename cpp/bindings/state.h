// The state of a recurrent layer as Python gives and takes it: a tuple of arrays.
#pragma once

#include <algorithm>
#include <array>
#include <string_view>

#include "bindings/arrays.h"
#include "layers/stream.h"

namespace rnnfast::bindings {

using namespace core;

// The parts of a layer's state, in the order of Python's tuples: h, c of a cell that has it, and the last x of a layer
// that carries it.
struct StatePart {
    const char* name;
    const float* RecurrentState::*in;
    float* RecurrentStateOut::*out;
};
inline constexpr StatePart part_h{"h", &RecurrentState::h, &RecurrentStateOut::h},
    part_c{"c", &RecurrentState::c, &RecurrentStateOut::c}, part_x{"x", &RecurrentState::x, &RecurrentStateOut::x};

struct StateParts {
    StateParts(const Recurrent& layer, size_t rows)
        : StateParts({layer.scans(), rows, layer.options().hidden_size}, layer.cell().has_c, layer.carried_inputs()) {}
    explicit StateParts(const StreamState& s)
        : StateParts({s.layers, s.rows, s.hidden}, s.c.size() != 0, s.carried_inputs()) {}
    // Of a model, every part has the rows in its second dimension.
    StateParts(const StreamShape& s, size_t rows)
        : StateParts({s.layers, rows, s.hidden}, s.cell->has_c, s.carried_inputs) {
        if (!inputs.empty()) inputs.insert(inputs.begin(), 1);
    }
    const std::vector<py::ssize_t>& shape(size_t i) const { return parts[i] == &part_x ? inputs : states; }
    size_t size(size_t i) const {
        size_t all = 1;
        for (const py::ssize_t n : shape(i)) all *= static_cast<size_t>(n);
        return all;
    }

    const StatePart* parts[3] = {&part_h};
    size_t count = 1;
    std::vector<py::ssize_t> states, inputs;  // shapes

private:
    StateParts(const std::array<size_t, 3>& shape, bool has_c, size_t carried)
        : states{signed_size(shape[0]), signed_size(shape[1]), signed_size(shape[2])} {
        if (has_c) parts[count++] = &part_c;
        if (carried) parts[count++] = &part_x;
        if (carried) inputs = {states[1], signed_size(carried)};
    }
};

// before, after: what a message says around a part's name.
inline RecurrentState state_of(const StateParts& parts, const py::sequence& given, std::string_view before,
                               std::string_view after) {
    RecurrentState state;
    for (size_t i = 0; i < std::min(parts.count, given.size()); ++i) {
        const py::object one = given[i];
        if (!one.is_none())
            state.*parts.parts[i]->in =
                optional_data(one, parts.shape(i), std::string(before) + parts.parts[i]->name + std::string(after));
    }
    return state;
}

// New arrays, and where the core writes them.
struct NewState {
    explicit NewState(const StateParts& parts) : arrays(parts.count) {
        for (size_t i = 0; i < parts.count; ++i) {
            Array<float> array(parts.shape(i));
            at.*parts.parts[i]->out = array.mutable_data();
            arrays[i] = std::move(array);
        }
    }
    py::tuple arrays;
    RecurrentStateOut at;
};

}  // namespace rnnfast::bindings
