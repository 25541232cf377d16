#include "layers/recurrent.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "ops/dropout.h"
#include "runtime/random.h"

namespace rnnfast::core {

namespace {

void check(const RecurrentOptions& o) {
    const auto fail = [](const std::string& text) { throw std::invalid_argument(text); };
    if (o.hidden_size == 0) fail("hidden_size is 0: expected at least 1");
    if (o.num_layers == 0) fail("num_layers is 0: expected at least 1");
    constexpr size_t most = 0x7fffffff;  // products of two sizes then fit 64 bits
    if (std::max({o.input_size, o.fixed_size, o.hidden_size, o.num_layers}) > most)
        fail("input_size, hidden_size and num_layers must be at most " + std::to_string(most));
    if (o.recompute && o.fixed_size) fail("recompute and fixed inputs: expected one of them");
    if (!(o.dropout >= 0.0f && o.dropout < 1.0f))
        fail("dropout is " + std::to_string(o.dropout) + ": expected at least 0 and less than 1");
}

// Where the reverse direction's step t of sorted row n lies in forward order.
size_t mirrored(const RecurrentTape& tape, size_t t, size_t n) { return tape.steps.offset[tape.length[n] - 1 - t] + n; }

void copy_rows_mirrored(const RecurrentTape& tape, const float* from, size_t from_stride, size_t width, float* to,
                        size_t to_stride) {
    for_each_row(tape.steps, [&](size_t row, size_t t, size_t n) {
        std::copy_n(from + mirrored(tape, t, n) * from_stride, width, to + row * to_stride);
    });
}

// Sorted rows of a state; width floats each, padded with zeros to `padded`.
void gather_state(const RecurrentTape& tape, const float* state, size_t width, size_t padded, float* to) {
    for (size_t n = 0; n < tape.order.size(); ++n) {
        float* row = to + n * padded;
        if (state)
            std::copy_n(state + tape.order[n] * width, width, row);
        else
            std::fill_n(row, width, 0.0f);
        std::fill(row + width, row + padded, 0.0f);
    }
}

}  // namespace

size_t RecurrentTape::saved_bytes() const {
    size_t floats = first_x && first_x == x.data() ? x.size() : 0;
    for (const Lane& l : lanes)
        for (const Buffer* b : {&l.gates, &l.c, &l.extra, &l.h0, &l.c0, &l.starts.h, &l.starts.c}) floats += b->size();
    for (const Buffer& output : outputs) floats += output.size();
    return floats * sizeof(float);
}

Recurrent::Recurrent(RecurrentOptions options, uint64_t seed, const Kernels& kernels, const std::string& prefix)
    : options_((check(options), std::move(options))),
      cell_(&cell_named(options_.cell)),
      kernels_(&kernels),
      packed_(std::make_unique<Packed>()) {
    const size_t rows = cell_->gates * options_.hidden_size;
    const double bound = cell_->initial_bound(options_.hidden_size);
    const auto add = [&](const std::string& name, std::vector<size_t> shape) {
        parameters.push_back(make_parameter(prefix + name, std::move(shape), options_.bare));
        uniform_(parameters.back(), bound, random_key(seed, parameters.size()));
        return &parameters.back();
    };
    for (size_t lane = 0; lane < lanes(); ++lane) {
        const size_t layer = lane / directions();
        const std::string number = options_.single ? "" : "_l" + std::to_string(layer);
        const std::string suffix = number + (lane % directions() ? "_reverse" : "");
        const size_t inputs = layer ? directions() * options_.hidden_size : first_width();
        LaneParameters p;
        const size_t read = layer ? inputs : options_.input_size + options_.fixed_size;
        if (read) p.weight_ih = add("weight_ih" + suffix, {rows, read});
        p.weight_hh = add("weight_hh" + suffix, {rows, options_.hidden_size});
        if (options_.bias) p.bias_ih = add("bias_ih" + suffix, {rows});
        if (options_.bias) p.bias_hh = add("bias_hh" + suffix, {rows});
        lane_parameters_.push_back(p);
    }
    packed_->lanes = unpacked();
}

std::vector<ScanWeights> Recurrent::unpacked() const {
    std::vector<ScanWeights> all;
    for (size_t lane = 0; lane < lanes(); ++lane) {
        const size_t layer = lane / directions();
        const size_t inputs = layer ? directions() * options_.hidden_size : first_width();
        const size_t apart = layer || joins_fixed() ? 0 : options_.fixed_size;
        all.emplace_back(*kernels_, *cell_, options_.weights, inputs, options_.hidden_size, apart);
    }
    return all;
}

void Recurrent::forget_packed() const {
    packed_->dense = false;
    packed_->tokens = false;
    packed_->back = packed_->back_input = false;
}

void Recurrent::renew_packed() const {
    forget_packed();
    replace_abandoned(packed_->lanes, unpacked());
}

void Recurrent::weights_changed() {
    const ForkLock lock(packed_->mutex, [&] { renew_packed(); });
    forget_packed();
    packed_->stamp.renew();
}

ScanParameters Recurrent::scan_parameters(size_t lane) const {
    const auto value = [](const Parameter* p) { return p ? p->value.data() : nullptr; };
    const LaneParameters& p = lane_parameters_[lane];
    return {value(p.weight_ih), value(p.weight_hh), value(p.bias_ih), value(p.bias_hh)};
}

ScanGradients Recurrent::scan_gradients(size_t lane) const {
    const auto gradient = [](Parameter* p) { return p ? p->grad.data() : nullptr; };
    const LaneParameters& p = lane_parameters_[lane];
    return {gradient(p.weight_ih), gradient(p.weight_hh), gradient(p.bias_ih), gradient(p.bias_hh)};
}

void Recurrent::prepare(bool token_input, bool backward, bool input_gradient) const {
    std::atomic<bool>& ready = token_input ? packed_->tokens : packed_->dense;
    if (!backward && ready.load(std::memory_order_acquire)) return;
    const ForkLock lock(packed_->mutex, [&] { renew_packed(); });
    if (!backward) {
        if (ready.load(std::memory_order_relaxed)) return;
        for (size_t lane = 0; lane < lanes(); ++lane)
            packed_->lanes[lane].pack(scan_parameters(lane), token_input && lane < directions());
        ready.store(true, std::memory_order_release);
        return;
    }
    if (packed_->back && (packed_->back_input || !input_gradient)) return;
    for (size_t lane = 0; lane < lanes(); ++lane)
        packed_->lanes[lane].pack_backward(scan_parameters(lane), input_gradient || lane >= directions());
    packed_->back = true;
    packed_->back_input = input_gradient;
}

size_t Recurrent::fixed_part_size() const {
    return options_.fixed_size && !joins_fixed() ? packed_->lanes[0].order.columns() : 0;
}

void Recurrent::fixed_part(const float* fixed, size_t rows, float* part, Buffer& scratch) const {
    core::fixed_part(packed(0), fixed, rows, part, scratch);
}

// The first layer's inputs in packed order: the caller's own memory when rows are even.
void Recurrent::lay_out_input(RecurrentTape& tape, Range part) const {
    const RecurrentInput& in = tape.input;
    const size_t inputs = options_.input_size, fixed = options_.fixed_size, rows = in.rows;
    const bool join = fixed && joins_fixed();
    tape.first_x = in.x;
    tape.fixed = join ? nullptr : in.fixed;
    if (in.tokens && !tape.even) {
        tape.tokens.resize(tape.steps.total());
        for_each_row(tape.steps,
                     [&](size_t row, size_t t, size_t n) { tape.tokens[row] = in.tokens[t * rows + tape.order[n]]; });
    }
    if (in.tokens) return;
    if (fixed && !join) {
        tape.fixed_row.resize(rows);
        for (size_t n = 0; n < rows; ++n)
            tape.fixed_row[n] = in.fixed_row ? static_cast<size_t>(in.fixed_row[tape.order[n]]) : tape.order[n];
    }
    if (fixed && !join && !tape.even) {
        tape.fixed_rows.reserve(rows * fixed);
        gather_state(tape, in.fixed, fixed, fixed, tape.fixed_rows.data());
        tape.fixed = tape.fixed_rows.data();
    }
    if (first_width() == 0 || (tape.even && !join)) return;
    tape.x.reserve(tape.steps.total() * first_width());
    for_each_row(tape.steps, part, [&](size_t row, size_t t, size_t n) {
        float* to = tape.x.data() + row * first_width();
        if (inputs) std::copy_n(in.x + (t * rows + tape.order[n]) * inputs, inputs, to);
        if (join) std::copy_n(in.fixed + tape.order[n] * fixed, fixed, to + inputs);
    });
    tape.first_x = tape.x.data();
}

// `to` becomes `from`, whose nullptr reads as zeros.
void Recurrent::pass_on(const RecurrentState& from, const RecurrentStateOut& to, size_t rows) const {
    const auto copy = [&](const float* state, float* out) {
        const size_t size = lanes() * rows * options_.hidden_size;
        if (!out) return;
        if (state)
            std::copy_n(state, size, out);
        else
            std::fill_n(out, size, 0.0f);
    };
    copy(from.h, to.h);
    if (cell_->has_c) copy(from.c, to.c);
}

void Recurrent::forward(const RecurrentInput& input, const RecurrentState& start, float* y,
                        const RecurrentStateOut& end, RecurrentTape& tape, bool save, uint64_t dropout_key) const {
    if (input.tokens && options_.fixed_size)
        throw std::invalid_argument("token input beside fixed inputs: expected x, such as rows of an embedding");
    if (save && options_.weights == Weights::int8)
        throw std::invalid_argument("int8 weights are for running a layer: train with weights \"f32\" or \"bf16\"");
    if (input.part.size() && (!save || options_.recompute || options_.bidirectional || input.tokens))
        throw std::invalid_argument("a sequence in parts: expected training, one direction, x, and no recomputation");
    if (input.fixed_part && options_.bidirectional)
        throw std::invalid_argument("the part of fixed inputs is that of one direction: expected the inputs alone");
    if (input.part.begin == 0) tape.set(input.lengths, input.steps, input.rows);
    const Range part = steps_asked(input.part, tape.steps.count());
    const bool begins = part.begin == 0, ends = part.end == tape.steps.count();
    if (begins) tape.weights = packed_->stamp.now();
    prepare(input.tokens != nullptr, false, false);
    tape.input = input;
    tape.saved = save;
    tape.dropout_key = dropout_key;
    tape.lanes.resize(lanes());
    tape.outputs.resize(options_.num_layers);
    const size_t hidden = options_.hidden_size, all = directions() * hidden, total = tape.steps.total();
    const size_t rows = input.rows;
    const bool keep = save && !options_.recompute;
    if (total == 0) {  // no row has a step: the states pass through
        std::fill_n(y, input.steps * rows * all, 0.0f);
        return pass_on(start, end, rows);
    }

    lay_out_input(tape, part);
    const float* x = tape.first_x;
    const int32_t* tokens = !input.tokens || tape.even ? input.tokens : tape.tokens.data();

    for (size_t layer = 0; layer < options_.num_layers; ++layer) {
        const bool last = layer + 1 == options_.num_layers;
        if (!(last && tape.even)) tape.outputs[layer].reserve(total * all);
        float* output = last && tape.even ? y : tape.outputs[layer].data();
        for (size_t direction = 0; direction < directions(); ++direction) {
            const size_t at = layer * directions() + direction;
            const ScanWeights& w = packed_->lanes[at];
            const size_t padded = w.order.padded_hidden();
            RecurrentTape::Lane& lane = tape.lanes[at];
            ScanForward s;
            s.steps = &tape.steps;
            s.x = x;
            s.x_stride = w.input_size;
            s.tokens = tokens;
            if (layer == 0 && w.fixed_size) {
                s.fixed_row = tape.fixed_row.data();
                s.fixed_part = input.fixed_part;
                if (!s.fixed_part) {
                    tape.fixed_part.reserve(rows * w.order.columns());
                    if (begins) core::fixed_part(w, input.fixed, rows, tape.fixed_part.data(), tape.scratch);
                    s.fixed_part = tape.fixed_part.data();
                }
            }
            s.y = output;
            s.y_stride = all;
            if (direction == 1) {
                if (tokens) {
                    tape.tokens_reversed.resize(total);
                    for_each_row(tape.steps, [&](size_t row, size_t t, size_t n) {
                        tape.tokens_reversed[row] = tokens[mirrored(tape, t, n)];
                    });
                    s.tokens = tape.tokens_reversed.data();
                } else if (w.input_size) {
                    tape.x_reversed.reserve(total * w.input_size);
                    copy_rows_mirrored(tape, x, w.input_size, w.input_size, tape.x_reversed.data(), w.input_size);
                    s.x = tape.x_reversed.data();
                }
                tape.y_reversed.reserve(total * hidden);
                s.y = tape.y_reversed.data();
                s.y_stride = hidden;
            }
            lane.h0.reserve(rows * hidden);
            if (begins)
                gather_state(tape, start.h ? start.h + at * rows * hidden : nullptr, hidden, hidden, lane.h0.data());
            s.h0 = lane.h0.data();
            if (cell_->has_c) {
                lane.c.reserve((keep ? total : rows) * padded);
                lane.c0.reserve(rows * padded);
                const float* c = start.c ? start.c + at * rows * hidden : nullptr;
                if (begins) gather_state(tape, c, hidden, padded, keep ? lane.c0.data() : lane.c.data());
                s.c = lane.c.data();
                s.c0 = lane.c0.data();
            }
            if (keep) {
                lane.gates.reserve(total * w.order.columns());
                s.gates = lane.gates.data();
                if (cell_->has_extra) {
                    lane.extra.reserve(total * padded);
                    s.extra = lane.extra.data();
                }
            }
            s.scratch = &tape.scratch;
            if (save && !keep)
                scan_forward_in_segments(w, s, lane.starts, tape.segment);
            else if (begins && ends)
                scan_forward(w, s);
            else
                scan_forward(w, s, part, tape.part);

            for (size_t n = 0; ends && n < rows; ++n) {  // each row's last state, in the caller's order
                const size_t to = (at * rows + tape.order[n]) * hidden;
                if (tape.length[n] == 0) {
                    if (end.h) std::copy_n(lane.h0.data() + n * hidden, hidden, end.h + to);
                    if (end.c && cell_->has_c)
                        std::copy_n((keep ? lane.c0 : lane.c).data() + n * padded, hidden, end.c + to);
                    continue;
                }
                const size_t row = tape.steps.offset[tape.length[n] - 1] + n;
                if (end.h) std::copy_n(s.y + row * s.y_stride, hidden, end.h + to);
                if (end.c && cell_->has_c) std::copy_n(s.c + (keep ? row : n) * padded, hidden, end.c + to);
            }
            if (direction == 1)
                for_each_row(tape.steps, [&](size_t row, size_t t, size_t n) {
                    std::copy_n(s.y + row * hidden, hidden, output + mirrored(tape, t, n) * all + hidden);
                });
        }
        tokens = nullptr;
        x = output;
        if (!last && save && options_.dropout > 0) {
            tape.x_dropped.reserve(total * all);
            dropout(output, tape.x_dropped.data(), all, tape.steps.offset, part,
                    {options_.dropout, options_.variational}, random_key(dropout_key, layer));
            x = tape.x_dropped.data();
        }
    }
    tape.y = x;
    if (tape.even) return;
    std::fill(y + part.begin * rows * all, y + (ends ? input.steps : part.end) * rows * all, 0.0f);
    for_each_row(tape.steps, part, [&](size_t row, size_t t, size_t n) {
        std::copy_n(x + row * all, all, y + (t * rows + tape.order[n]) * all);
    });
}

void Recurrent::backward(RecurrentTape& tape, const float* dy, const RecurrentState& dend, float* dx,
                         const RecurrentStateOut& dstart, float* dfixed) {
    if (!tape.saved)
        throw std::invalid_argument("backward: nothing was saved, or it was used already; run forward again");
    check_weights(tape);
    tape.saved = false;
    const bool input_gradient = (dx && options_.input_size) || (dfixed && options_.fixed_size);
    prepare(false, true, input_gradient);
    const size_t hidden = options_.hidden_size, all = directions() * hidden, total = tape.steps.total();
    const size_t rows = tape.input.rows;
    if (total == 0) {
        if (dx) std::fill_n(dx, tape.input.steps * rows * options_.input_size, 0.0f);
        if (dfixed) std::fill_n(dfixed, rows * options_.fixed_size, 0.0f);
        return pass_on(dend, dstart, rows);
    }
    const float* layer_dy = dy;
    if (dy && !tape.even) {
        tape.dy.reserve(total * all);
        for_each_row(tape.steps, [&](size_t row, size_t t, size_t n) {
            std::copy_n(dy + (t * rows + tape.order[n]) * all, all, tape.dy.data() + row * all);
        });
        layer_dy = tape.dy.data();
    }

    for (size_t layer = options_.num_layers; layer-- > 0;) {
        const size_t inputs = layer ? all : first_width();
        const bool dropped = layer > 0 && options_.dropout > 0;
        const float* output = layer + 1 == options_.num_layers ? tape.y : tape.outputs[layer].data();
        const float* x = layer ? tape.outputs[layer - 1].data() : tape.first_x;
        const int32_t* tokens = layer || !tape.input.tokens ? nullptr
                                : tape.even                 ? tape.input.tokens
                                                            : tape.tokens.data();
        if (dropped) {  // made again, not stored
            tape.x_dropped.reserve(total * all);
            dropout(x, tape.x_dropped.data(), all, tape.steps.offset, {options_.dropout, options_.variational},
                    random_key(tape.dropout_key, layer - 1));
            x = tape.x_dropped.data();
        }
        const bool want_dx = layer > 0 || (dx && inputs);
        Buffer& buffer = layer % 2 ? tape.dx : tape.dx_other;
        const bool direct = layer == 0 && tape.even && dx;  // even rows: straight into the caller's memory
        if (want_dx && !direct) buffer.reserve(total * inputs);
        float* layer_dx = direct ? dx : want_dx ? buffer.data() : nullptr;
        for (size_t direction = 0; direction < directions(); ++direction) {
            const size_t at = layer * directions() + direction;
            const ScanWeights& w = packed_->lanes[at];
            const size_t padded = w.order.padded_hidden();
            RecurrentTape::Lane& lane = tape.lanes[at];
            ScanBackward s;
            s.steps = &tape.steps;
            s.x = x;
            s.x_stride = inputs;
            s.tokens = tokens;
            s.fixed = layer ? nullptr : tape.fixed;
            s.h0 = lane.h0.data();
            s.c0 = lane.c0.data();
            s.y = output;
            s.y_stride = direction ? hidden : all;
            s.c = lane.c.data();
            s.gates = lane.gates.data();
            s.extra = cell_->has_extra ? lane.extra.data() : nullptr;
            s.dy = layer_dy;
            s.dy_stride = all;
            s.dx = layer_dx;
            s.dx_stride = inputs;
            if (direction == 1) {
                if (tokens) {
                    tape.tokens_reversed.resize(total);
                    for_each_row(tape.steps, [&](size_t row, size_t t, size_t n) {
                        tape.tokens_reversed[row] = tokens[mirrored(tape, t, n)];
                    });
                    s.tokens = tape.tokens_reversed.data();
                } else if (inputs) {
                    tape.x_reversed.reserve(total * inputs);
                    copy_rows_mirrored(tape, x, inputs, inputs, tape.x_reversed.data(), inputs);
                    s.x = tape.x_reversed.data();
                }
                if (!options_.recompute) {
                    tape.y_reversed.reserve(total * hidden);
                    copy_rows_mirrored(tape, output + hidden, all, hidden, tape.y_reversed.data(), hidden);
                    s.y = tape.y_reversed.data();
                }
                if (layer_dy) {
                    tape.dy_reversed.reserve(total * hidden);
                    copy_rows_mirrored(tape, layer_dy + hidden, all, hidden, tape.dy_reversed.data(), hidden);
                    s.dy = tape.dy_reversed.data();
                    s.dy_stride = hidden;
                }
                if (want_dx) {
                    tape.dx_reversed.reserve(total * inputs);
                    s.dx = tape.dx_reversed.data();
                }
            }
            tape.dh.reserve(rows * hidden);
            tape.dh0.reserve(rows * hidden);
            tape.dc.reserve(rows * padded);
            gather_state(tape, dend.h ? dend.h + at * rows * hidden : nullptr, hidden, hidden, tape.dh.data());
            gather_state(tape, dend.c ? dend.c + at * rows * hidden : nullptr, hidden, padded, tape.dc.data());
            s.dh_last = tape.dh.data();
            s.dc = tape.dc.data();
            s.dh0 = dstart.h ? tape.dh0.data() : nullptr;
            const bool want_dfixed = layer == 0 && dfixed && w.fixed_size;
            if (want_dfixed) tape.dfixed.reserve(rows * w.fixed_size);
            s.dfixed = want_dfixed ? tape.dfixed.data() : nullptr;
            s.scratch = &tape.scratch;
            const ScanGradients gradients = scan_gradients(at);
            if (options_.recompute)
                scan_backward_in_segments(w, s, tape.dh.data(), lane.starts, tape.segment, gradients);
            else
                scan_backward(w, s, gradients);

            for (size_t n = 0; n < rows; ++n) {
                const size_t to = (at * rows + tape.order[n]) * hidden;
                const bool untouched = tape.length[n] == 0;  // a row without steps: its states passed through
                const float* dh0 = options_.recompute || untouched ? tape.dh.data() : tape.dh0.data();
                if (dstart.h) std::copy_n(dh0 + n * hidden, hidden, dstart.h + to);
                if (dstart.c && cell_->has_c) std::copy_n(tape.dc.data() + n * padded, hidden, dstart.c + to);
                if (!want_dfixed) continue;
                float* row = dfixed + tape.order[n] * w.fixed_size;
                if (direction == 0) std::fill_n(row, w.fixed_size, 0.0f);
                if (untouched) continue;
                kernels_->add(w.fixed_size, s.dfixed + n * w.fixed_size, row);
            }
            if (direction == 1 && want_dx)
                for_each_row(tape.steps, [&](size_t row, size_t t, size_t n) {
                    kernels_->add(inputs, s.dx + row * inputs, layer_dx + mirrored(tape, t, n) * inputs);
                });
        }
        if (dropped)
            dropout(layer_dx, layer_dx, all, tape.steps.offset, {options_.dropout, options_.variational},
                    random_key(tape.dropout_key, layer - 1));
        layer_dy = layer_dx;
    }
    if (!dx || tape.even) return;
    std::fill_n(dx, tape.input.steps * rows * options_.input_size, 0.0f);
    for_each_row(tape.steps, [&](size_t row, size_t t, size_t n) {
        std::copy_n(layer_dy + row * options_.input_size, options_.input_size,
                    dx + (t * rows + tape.order[n]) * options_.input_size);
    });
}

}  // namespace rnnfast::core
