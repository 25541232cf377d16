#include "ops/scan_step.h"

namespace rnnfast::core {

void cut(ScanArrays& s, Range range, Steps& part) {
    const Steps& all = *s.steps;
    const Range rows{all.offset[range.begin], all.offset[range.end]};
    if (range.begin) {
        const Range before = all.at(range.begin - 1, {0, all.rows(range.begin)});
        s.h0 = s.y.row_range(before);
        if (s.saves()) s.c0 = s.c.row_range(before);
    }
    cut(all, range, part);
    s.steps = &part;
    s.x = s.x.row_range(rows);
    if (s.tokens) s.tokens += rows.begin;
    s.y = s.y.row_range(rows);
    if (s.saves()) s.c = s.c.row_range(rows);
    s.gates = s.gates.row_range(rows);
    s.extra = s.extra.row_range(rows);
}

Step step_at(const ScanArrays& s, size_t t, Range rows) {
    const Range now = s.steps->at(t, rows), before = t ? s.steps->at(t - 1, rows) : rows;
    const bool save = s.saves();
    return {s.gates.row_range(now),
            t ? ConstView(s.y.row_range(before)) : s.h0.row_range(before),
            s.y.row_range(now),
            t || !save ? ConstView(s.c.row_range(save ? before : rows)) : s.c0.row_range(rows),
            s.c.row_range(save ? now : rows),
            s.extra.row_range(now),
            save,
            s.x.row_range(now)};
}

namespace {

void run_forward(const ScanWeights& w, CellIndex kernel, const Step& s, Range columns, const ConstView& recurrent) {
    const size_t unit = columns.begin / w.cell->gates;
    CellForward c;
    c.rows = s.h.rows;
    c.units = std::min(columns.size() / w.cell->gates, w.order.hidden - unit);
    c.save = s.save;
    c.gates = s.gates.base + columns.begin;
    c.gate_stride = s.gates.stride;
    c.recurrent = recurrent.base;
    c.recurrent_stride = recurrent.stride;
    c.h_prev = s.h_prev.base + unit;
    c.h_prev_stride = s.h_prev.stride;
    c.h = s.h.base + unit;
    c.h_stride = s.h.stride;
    if (w.cell->has_c) {
        c.c_prev = s.c_prev.base + unit;
        c.c_prev_stride = s.c_prev.stride;
        c.c = s.c.base + unit;
        c.c_stride = s.c.stride;
    }
    if (s.extra) {
        c.extra = s.extra.base + unit;
        c.extra_stride = s.extra.stride;
    }
    if (w.cell->highway) {
        c.x = s.x.base + unit;
        c.x_stride = s.x.stride;
    }
    if (w.cell->state_reads.count) c.state_weights = w.state_weights.data() + unit;
    c.state_weights_stride = w.order.padded_hidden();
    w.kernels->cells[kernel].forward(c);
}

}  // namespace

void forward_step(const ScanWeights& w, const Step& s, Range columns, const ConstView& recurrent) {
    run_forward(w, w.cell->kernel, s, columns, recurrent);
}

void fused_step(const ScanWeights& w, const Step& s, const LeftRows& h_prev, Range columns, float* tile) {
    if (!w.cell->recurrent) return forward_step(w, s, columns, {});
    const View recurrent(tile, s.h.rows, columns.size());
    multiply(w.recurrent, h_prev, columns.begin, columns.size(), w.recurrent_bias.data() + columns.begin, recurrent);
    forward_step(w, s, columns, recurrent);
}

void finish_step(const ScanWeights& w, const Step& s, Range columns, size_t number, float* tile, float* left) {
    if (!w.cell->has_second()) return;
    const LeftRows rows = left_rows(w.second, ConstView(s.extra), s.h.rows, left);
    for_each_tile(columns, tile_columns(s.h.rows, w.column_grain()), number, [&](Range part) {
        const Range units{part.begin / w.cell->gates, part.end / w.cell->gates};
        const View recurrent(tile, s.h.rows, units.size());
        multiply(w.second, rows, units.begin, units.size(), w.second_bias.data() + units.begin, recurrent);
        run_forward(w, w.cell->second_kernel, s, part, recurrent);
    });
}

namespace {

void run_backward(const ScanWeights& w, CellIndex kernel, const Step& s, const StepGradients& d, Range units,
                  const ConstView& dh) {
    CellBackward c;
    c.rows = s.h.rows;
    c.units = units.size();
    c.gates = s.gates.base + units.begin * w.cell->gates;
    c.gate_stride = s.gates.stride;
    c.dh = dh.base;
    c.dh_stride = dh.stride;
    if (d.dy) c.dy = d.dy.base + units.begin;
    c.dy_stride = d.dy.stride;
    c.dh_direct = d.dh_direct.base + units.begin;
    c.dh_direct_stride = d.dh_direct.stride;
    c.h_prev = s.h_prev.base + units.begin;
    c.h_prev_stride = s.h_prev.stride;
    if (w.cell->has_c) {
        c.c = s.c.base + units.begin;
        c.c_stride = s.c.stride;
        c.c_prev = s.c_prev.base + units.begin;
        c.c_prev_stride = s.c_prev.stride;
        c.dc = d.dc.base + units.begin;
        c.dc_stride = d.dc.stride;
    }
    if (const View& extra = w.cell->has_second() ? d.dlast : s.extra) {
        c.extra = extra.base + units.begin;
        c.extra_stride = extra.stride;
    }
    if (w.cell->highway) {
        c.x = s.x.base + units.begin;
        c.x_stride = s.x.stride;
        if (d.dx) c.dx = d.dx.base + units.begin;
        c.dx_stride = d.dx.stride;
    }
    if (w.cell->state_reads.count) c.state_weights = w.state_weights.data() + units.begin;
    c.state_weights_stride = w.order.padded_hidden();
    w.kernels->cells[kernel].backward(c);
}

}  // namespace

void backward_step(const ScanWeights& w, const Step& s, const StepGradients& d, Range units, const ConstView& dh) {
    run_backward(w, w.cell->kernel, s, d, units, dh);
}

void second_backward_step(const ScanWeights& w, const Step& s, const StepGradients& d, Range units,
                          const ConstView& dextra) {
    run_backward(w, w.cell->second_kernel, s, d, units, dextra);
}

void swap_last_gate(const GateOrder& order, float* gates, float* extra) {
    const size_t step = order.gates * unit_block;
    for (size_t b = 0; b < order.blocks(); ++b) {
        float *last = gates + b * step + step - unit_block, *other = extra + b * unit_block, kept[unit_block];
        std::memcpy(kept, last, sizeof kept);  // whole vectors at -O2 too: std::swap_ranges took 8% of a backward
        std::memcpy(last, other, sizeof kept);
        std::memcpy(other, kept, sizeof kept);
    }
}

void gather_input(const ScanWeights& w, const int32_t* tokens, Range columns, const View& gates) {
    for (size_t r = 0; r < gates.rows; ++r)
        std::memcpy(gates.row(r),
                    w.token_rows.data() + static_cast<size_t>(tokens[r]) * w.order.columns() + columns.begin,
                    columns.size() * sizeof(float));
}

size_t tile_columns(size_t rows, size_t grain) {
    constexpr size_t most = 512;
    return std::max<size_t>(1, std::min(tile_floats / std::max<size_t>(rows, 1), most) / grain) * grain;
}

size_t tile_scratch(size_t rows, size_t grain) { return std::max(tile_floats, rows * grain); }

namespace {

// So few gates that both parts of all of them stay in L1.
bool few_gates(const ScanWeights& w, size_t rows) { return rows * w.order.columns() <= 2 * tile_floats; }

// Floats of the recurrent part that a step makes.
size_t recurrent_floats(const ScanWeights& w, size_t rows) {
    if (!w.cell->recurrent) return 0;
    return few_gates(w, rows) ? rows * w.order.columns() : tile_scratch(rows, w.column_grain());
}

// C = start + A B, walking B's panels backwards on odd steps
void multiply_walking(const PackedMatrix& b, const ConstView& a, const float* start, size_t number, const View& c,
                      float* left) {
    const LeftRows a_rows = left_rows(b, a, a.rows, left);
    const size_t wide = std::max<size_t>(1, 512 / b.width()) * b.width();
    for_each_tile({0, c.columns}, wide, number, [&](Range part) {
        multiply(b, a_rows, part.begin, part.size(), start + part.begin, c.column_range(part));
    });
}

}  // namespace

StepWorkspace::Sizes StepWorkspace::sizes(const ScanWeights& w, size_t rows) {
    return {rows * w.order.columns(), recurrent_floats(w, rows),
            std::max(w.input.depth() ? left_scratch(w.input, rows) : 0, left_scratch(w.recurrent, rows)),
            w.cell->has_second() ? rows * w.order.padded_hidden() : 0};
}

void StepWorkspace::reserve(const Sizes& sizes) {
    gates.reserve(sizes.gates);
    recurrent.reserve(sizes.recurrent);
    left.reserve(sizes.left);
    extra.reserve(sizes.extra);
}

void scan_step(const ScanWeights& w, const ScanStep& s, StepWorkspace& workspace) {
    const size_t rows = s.h.rows, columns = w.order.columns();
    workspace.reserve(StepWorkspace::sizes(w, rows));
    float* left = workspace.left.data();
    const View extra = w.cell->has_second() ? View(workspace.extra.data(), rows, w.order.padded_hidden()) : View();
    const Step step{{workspace.gates.data(), rows, columns}, s.h, s.h_next, s.c, s.c, extra, false, s.x};
    const auto input = [&] {
        if (s.tokens)
            gather_input(w, s.tokens, {0, columns}, step.gates);
        else
            multiply_walking(w.input, s.x, w.input_bias.data(), s.number, step.gates, left);
    };
    if (!w.cell->recurrent) {
        input();
        return forward_step(w, step, {0, columns}, {});
    }
    if (!few_gates(w, rows)) {
        input();
        const LeftRows h_rows = left_rows(w.recurrent, s.h, rows, left);
        for_each_tile({0, columns}, tile_columns(rows, w.column_grain()), s.number,
                      [&](Range tile) { fused_step(w, step, h_rows, tile, workspace.recurrent.data()); });
        return finish_step(w, step, {0, columns}, s.number, workspace.recurrent.data(), left);
    }
    // Odd steps go all the way back, so that the matrix used last, still in L2, comes first.
    const View recurrent(workspace.recurrent.data(), rows, columns);
    if (s.number % 2 == 0) input();
    multiply_walking(w.recurrent, s.h, w.recurrent_bias.data(), s.number, recurrent, left);
    if (s.number % 2) input();
    forward_step(w, step, {0, columns}, recurrent);
    finish_step(w, step, {0, columns}, s.number, recurrent.base, left);
}

}  // namespace rnnfast::core
