#include "models/network_groups.h"

#include <algorithm>

namespace rnnfast::core {

namespace {

// One group's rows of every step, in memory of its own, and back.
struct GroupOfRows {
    size_t group, count;

    size_t rows(const Signal& s) const { return s.rows / count; }
    Signal part(const Signal& s) const {
        Signal own = s;
        own.rows = rows(s);
        own.x = nullptr;
        if (s.lengths) own.lengths = s.lengths + group * own.rows;
        return own;
    }
    // from: [T, N, width] of the shape of s; returns the memory of `buffer`.
    float* take(const Signal& s, const float* from, Buffer& buffer) const {
        const size_t own = rows(s) * s.width, all = s.rows * s.width;
        buffer.reserve(s.steps * own);
        for (size_t t = 0; from && t < s.steps; ++t)
            std::copy_n(from + t * all + group * own, own, buffer.data() + t * own);
        return buffer.data();
    }
    void put(const Signal& s, const Buffer& buffer, float* to) const {
        const size_t own = rows(s) * s.width, all = s.rows * s.width;
        for (size_t t = 0; t < s.steps; ++t) std::copy_n(buffer.data() + t * own, own, to + t * all + group * own);
    }
};

// The inputs of a layer, of one group.
struct GroupInputs {
    std::vector<Signal> signals;
    std::vector<const Signal*> pointers;

    GroupInputs(const std::vector<const Signal*>& all, const GroupOfRows& group, std::vector<Buffer>& memory) {
        memory.resize(all.size());
        signals.reserve(all.size());
        for (size_t i = 0; i < all.size(); ++i) {
            signals.push_back(group.part(*all[i]));
            signals[i].x = group.take(*all[i], all[i]->x, memory[i]);
            pointers.push_back(&signals[i]);
        }
    }
};

}  // namespace

void forward_groups(const NetworkLayer& layer, const LayerForward& f, GroupedTape& tape) {
    const size_t count = f.row_groups.count();
    while (tape.groups.size() < count) tape.groups.push_back(layer.make_tape());
    for (size_t g = 0; g < count; ++g) {
        const GroupOfRows group{g, count};
        const GroupInputs inputs(f.inputs, group, tape.x);
        const Signal output = group.part(f.output);
        LayerForward own{inputs.pointers, output, group.take(f.output, nullptr, tape.y), tape.groups[g].get(),
                         f.scratch};
        own.train = f.train;
        layer.forward(own);
        group.put(f.output, tape.y, f.y);
    }
}

void backward_groups(const Kernels& kernels, NetworkLayer& layer, const LayerBackward& b, GroupedTape& tape) {
    sum_groups(kernels, layer.parameters(), b.row_groups, tape.gradients, [&](size_t g) {
        const GroupOfRows group{g, b.row_groups.count()};
        const GroupInputs inputs(b.inputs, group, tape.x);
        Signal output = group.part(b.output);
        if (layer.backward_reads_y()) output.x = group.take(b.output, b.output.x, tape.y);
        std::vector<float*> dx(b.dx.size(), nullptr);
        tape.dx.resize(b.dx.size());
        for (size_t i = 0; i < dx.size(); ++i)
            if (b.dx[i]) dx[i] = group.take(*b.inputs[i], nullptr, tape.dx[i]);
        LayerTape* own = g < tape.groups.size() ? tape.groups[g].get() : nullptr;
        layer.backward({inputs.pointers, output, group.take(b.output, b.dy, tape.dy), dx, own, b.scratch});
        for (size_t i = 0; i < dx.size(); ++i)
            if (b.dx[i]) group.put(*b.inputs[i], tape.dx[i], b.dx[i]);
    });
}

}  // namespace rnnfast::core
