#include "core/stream.h"

#include <algorithm>
#include <stdexcept>

namespace rnnfast {

Stream::Stream(const Recurrent& layer, size_t rows) : layer_(layer), rows_(rows) {
    if (layer.directions() != 1)
        throw std::invalid_argument(
            "a bidirectional layer cannot stream: its second half starts from the end of the sequence; call it on the "
            "whole sequence, or make it with bidirectional=False");
    if (rows == 0) throw std::invalid_argument("rows is 0: expected at least 1");
    const size_t hidden = layer.options().hidden_size;
    size_t gates = 0, tile = 0, left = 0;
    lanes_.resize(layer.lanes());
    for (size_t at = 0; at < lanes_.size(); ++at) {
        const ScanWeights& w = layer.packed(at);
        lanes_[at] = {Buffer(rows * hidden), Buffer(rows * hidden), Buffer(rows * w.order.padded_hidden())};
        gates = std::max(gates, rows * w.order.columns());
        tile = std::max(tile, tile_scratch(rows, w.column_grain()));
        left = std::max({left, left_scratch(w.input, rows), left_scratch(w.recurrent, rows)});
        flops_ += 2.0 * static_cast<double>(rows * w.order.columns() * (w.input_size + hidden));
    }
    gates_ = Buffer(gates);
    tile_ = Buffer(tile);
    left_ = Buffer(left);
}

void Stream::step(const float* x, float* y) {
    const size_t hidden = layer_.options().hidden_size;
    for (size_t at = 0; at < lanes_.size(); ++at) {
        const ScanWeights& w = layer_.packed(at);
        const size_t columns = w.order.columns(), padded = w.order.padded_hidden();
        Lane& lane = lanes_[at];
        const LeftRows x_rows = left_rows(w.input, {x, w.input_size, 0, 0}, rows_, left_.data());
        multiply(w.input, x_rows, 0, columns, w.input_bias.data(), {gates_.data(), columns, 0, 0});

        CellForward c;
        c.rows = rows_;
        c.gates = gates_.data();
        c.gate_stride = columns;
        c.h_prev = lane.h.data();
        c.h = lane.h_next.data();
        c.h_prev_stride = c.h_stride = hidden;
        if (w.cell->has_c) {
            c.c_prev = c.c = lane.c.data();
            c.c_prev_stride = c.c_stride = padded;
        }
        const LeftRows h_rows = left_rows(w.recurrent, {lane.h.data(), hidden, 0, 0}, rows_, left_.data());
        const size_t wide = tile_columns(rows_, w.column_grain());
        for_each_tile({0, columns}, wide, steps_, [&](Range tile) { fused_step(w, h_rows, c, tile, tile_.data()); });
        std::swap(lane.h, lane.h_next);
        x = lane.h.data();
    }
    ++steps_;
    std::copy_n(x, rows_ * hidden, y);
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

}  // namespace rnnfast
