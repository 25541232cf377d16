#include "layers/stream.h"

#include <algorithm>
#include <stdexcept>

namespace rnnfast::core {

Stream::Stream(const Recurrent& layer, size_t rows) : layer_(layer), rows_(rows) {
    if (layer.directions() != 1)
        throw std::invalid_argument(
            "a bidirectional layer cannot stream: its second half starts from the end of the sequence; call it on the "
            "whole sequence, or make it with bidirectional=False");
    if (rows == 0) throw std::invalid_argument("rows is 0: expected at least 1");
    const size_t hidden = layer.options().hidden_size;
    lanes_.resize(layer.lanes());
    for (size_t at = 0; at < lanes_.size(); ++at) {
        const ScanWeights& w = layer.packed(at);
        lanes_[at] = {Buffer(rows * hidden), Buffer(rows * hidden), Buffer(rows * w.order.padded_hidden())};
        memory_.reserve(StepMemory::sizes(w, rows));
        flops_ += 2.0 * static_cast<double>(rows * w.order.columns() * (w.input_size + hidden));
    }
}

void Stream::step(const float* x, float* y) {
    ScanStep s;
    s.rows = rows_;
    s.x = x;
    s.step = steps_++;
    for (size_t at = 0; at < lanes_.size(); ++at) {
        Lane& lane = lanes_[at];
        s.h = lane.h.data();
        s.c = lane.c.data();
        s.h_next = lane.h_next.data();
        scan_step(layer_.packed(at), s, memory_);
        std::swap(lane.h, lane.h_next);
        s.x = lane.h.data();
    }
    std::copy_n(s.x, rows_ * layer_.options().hidden_size, y);
}

void Stream::set_state(const float* h, const float* c) {
    const size_t hidden = layer_.options().hidden_size;
    for (size_t at = 0; at < lanes_.size(); ++at) {
        Lane& lane = lanes_[at];
        const size_t first = at * rows_ * hidden, padded = lane.c.size() / rows_;
        lane.h.zero();
        lane.c.zero();
        if (h) std::copy_n(h + first, rows_ * hidden, lane.h.data());
        for (size_t n = 0; c && n < rows_; ++n) std::copy_n(c + first + n * hidden, hidden, lane.c.data() + n * padded);
    }
}

void Stream::get_state(float* h, float* c) const {
    const size_t hidden = layer_.options().hidden_size;
    for (size_t at = 0; at < lanes_.size(); ++at) {
        const Lane& lane = lanes_[at];
        const size_t first = at * rows_ * hidden, padded = lane.c.size() / rows_;
        std::copy_n(lane.h.data(), rows_ * hidden, h + first);
        for (size_t n = 0; c && n < rows_; ++n) std::copy_n(lane.c.data() + n * padded, hidden, c + first + n * hidden);
    }
}

}  // namespace rnnfast::core
