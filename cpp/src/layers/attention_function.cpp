#include "layers/attention_function.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "runtime/check.h"
#include "runtime/fingerprint.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

namespace {

constexpr size_t parts = attention_parts;

HeadPanels head_panels(const Kernels& kernels, size_t heads, size_t size) {
    HeadPanels best{&kernels.product(), heads, size};
    for (const GemmShape shape : {gemm_32, gemm_16}) {
        const GemmKernel& narrow = kernels.gemm[gemm_f32][shape];
        const HeadPanels other{&narrow, heads, size};
        if (other.padded() < best.padded()) best = other;
    }
    return best;
}

// Calls body(n, steps) for this thread's share of all steps of all rows.
template <class Body>
void for_own_steps(const Team& team, const std::vector<size_t>& lengths, size_t steps, Body body) {
    const Range own = split(lengths.size() * steps, team.size, team.index);
    for (size_t at = own.begin; at < own.end;) {
        const size_t n = at / steps, first = at % steps;
        const size_t last = std::min(first + (own.end - at), steps);
        if (first < lengths[n]) body(n, Range{first, std::min(last, lengths[n])});
        at += last - first;
    }
}

// Zeros beyond the lengths.
void clear_padding(const AttentionTape& tape, float* y) {
    for (size_t n = 0; n < tape.lengths.size(); ++n)
        for (size_t t = tape.lengths[n]; t < tape.layout.steps; ++t)
            std::fill_n(y + tape.layout.offset(t, n), tape.layout.channels, 0.0f);
}

bool ragged(const AttentionTape& tape) {
    return std::any_of(tape.lengths.begin(), tape.lengths.end(), [&](size_t l) { return l < tape.layout.steps; });
}

// Row of in_proj_weight behind a padded column, or `none` for padding.
constexpr size_t none = static_cast<size_t>(-1);
size_t row_behind(const HeadPanels& heads, size_t column) {
    const size_t unit = column % heads.padded(), head = column / heads.padded();
    return unit < heads.size ? head * heads.size + unit : none;
}

// This thread's steps of x times `weights`, into panels [N][columns / width][T][width].
void project_panels(const Team& team, const PackedMatrix& weights, const float* start, const ConstSequence& x,
                    const std::vector<size_t>& lengths, float* to) {
    const size_t width = weights.width(), panels = weights.padded_columns() / width, steps = x.layout.steps;
    for_own_steps(team, lengths, steps, [&](size_t n, const Range& own) {
        for (size_t p = 0; p < panels; ++p) {
            Gemm g;
            g.rows = own.size();
            g.depth = weights.depth();
            g.columns = width;
            g.a = {x.at(own.begin, n), x.layout.step_stride, 0, 0};
            g.panels = weights.panel(p * width);
            g.start = start + p * width;
            g.c = {to + ((n * panels + p) * steps + own.begin) * width, width, 0, 0};
            weights.kernel().run(g);
        }
    });
}

}  // namespace

AttentionFunction::AttentionFunction(const AttentionOptions& options, const Kernels& kernels)
    : options_(options), kernels_(&kernels) {
    const size_t D = options.embed_dim, heads = options.num_heads;
    if (D == 0 || heads == 0) refuse({"SelfAttention: embed_dim and num_heads must be at least 1"});
    if (D % heads)
        refuse({"SelfAttention: embed_dim is ", D, " and num_heads ", heads, "; expected heads of equal size"});
    constexpr size_t most = 0x1fffffff;  // products of two sizes then fit 64 bits
    if (D > most) refuse({"SelfAttention: embed_dim must be at most ", most});
    heads_ = head_panels(kernels, heads, D / heads);
    scale_ = static_cast<float>(1.0 / std::sqrt(static_cast<double>(heads_.size)));
}

void AttentionFunction::pack(const AttentionParameters& from, AttentionForward& p) const {
    const size_t D = options_.embed_dim;
    if (p.in.depth() == 0) {
        p.in = PackedMatrix(*heads_.kernel, D, parts * heads_.heads * heads_.padded());
        p.out = PackedMatrix(kernels_->product(), D, D);
        p.in_start = Buffer(p.in.padded_columns());
        p.out_start = Buffer(p.out.padded_columns());
    }
    Buffer scaled(D * D, Buffer::Uninitialised{});  // the queries' weights carry the scale of the scores
    for (size_t i = 0; i < D * D; ++i) scaled.data()[i] = from.in_weight[i] * scale_;
    p.in.fill_from_columns([&](size_t j) -> const float* {
        const size_t row = row_behind(heads_, j);
        if (row == none) return nullptr;
        return row < D ? scaled.data() + row * D : from.in_weight + row * D;
    });
    p.out.fill_from_columns([&](size_t j) { return from.out_weight + j * D; });
    for (size_t j = 0; options_.bias && j < p.in.columns(); ++j) {
        const size_t row = row_behind(heads_, j);
        if (row != none) p.in_start.data()[j] = from.in_bias[row] * (row < D ? scale_ : 1.0f);
    }
    if (options_.bias) std::copy_n(from.out_bias, D, p.out_start.data());
}

void AttentionFunction::pack(const AttentionParameters& from, AttentionBackward& p) const {
    const size_t D = options_.embed_dim, padded = heads_.heads * heads_.padded();
    if (p.out.depth() == 0) {
        p.out = PackedMatrix(*heads_.kernel, D, padded);
        p.in = PackedMatrix(kernels_->product(), parts * padded, D);
        p.zeros = Buffer(std::max(p.out.padded_columns(), p.in.padded_columns()));
    }
    if (padded == D) {
        p.out.fill_from_rows([&](size_t o) { return from.out_weight + o * D; });
    } else {
        Buffer spread(D * padded);  // out_proj with every head padded
        for (size_t o = 0; o < D; ++o)
            for (size_t h = 0; h < heads_.heads; ++h)
                std::copy_n(from.out_weight + o * D + h * heads_.size, heads_.size,
                            spread.data() + o * padded + h * heads_.padded());
        p.out.fill_from_rows([&](size_t o) { return spread.data() + o * padded; });
    }
    p.in.fill_from_rows([&](size_t j) -> const float* {
        const size_t row = row_behind(heads_, j);
        return row == none ? nullptr : from.in_weight + row * D;
    });
}

void AttentionFunction::project(const Team& team, const AttentionForward& p, const ConstSequence& x,
                                const std::vector<size_t>& lengths, float* to) const {
    project_panels(team, p.in, p.in_start.data(), x, lengths, to);
}

size_t AttentionFunction::saved_floats(size_t steps, size_t rows) const {
    const size_t heads = heads_.heads;
    return rows * steps * (parts * heads * heads_.padded() + 2 * heads) +
           round_up(rows * steps * options_.embed_dim, unit_block);
}

// Places the arrays of a tape in its memory.
void AttentionFunction::lay_out(AttentionTape& tape) const {
    const size_t T = tape.layout.steps, N = tape.layout.rows, heads = heads_.heads;
    if (!tape.memory) tape.own.reserve(saved_floats(T, N));
    tape.projected = tape.memory ? tape.memory : tape.own.data();
    tape.context = tape.projected + N * T * parts * heads * heads_.padded();
    tape.maximum = tape.context + round_up(tape.layout.size(), unit_block);
    tape.inverse = tape.maximum + N * heads * T;
}

// Head `head` of a row in what `project` wrote.
Head AttentionFunction::head_of(const AttentionTape& tape, size_t n, size_t head) const {
    const size_t each = heads_.padded() * tape.layout.steps;  // floats of one head
    const float* row = tape.projected + n * parts * heads_.heads * each;
    const auto part = [&](size_t p) { return row + (p * heads_.heads + head) * each; };
    return {&heads_,         kernels_,     options_.causal,
            tape.lengths[n], tape.keys[n], tape.layout.steps * heads_.width(),
            part(part_q),    part(part_k), part(part_v)};
}

void AttentionFunction::run(const AttentionForward& p, const ConstSequence& x, float* y, AttentionTape& tape) const {
    const Layout& layout = x.layout;
    const size_t T = layout.steps, N = layout.rows, D = options_.embed_dim, heads = heads_.heads;
    tape.layout = layout;
    lay_out(tape);
    const double flops = static_cast<double>(N * T) * static_cast<double>(8 * D + 4 * T) * static_cast<double>(D);
    const size_t threads = threads_for(flops), each = round_up(attend_scratch(heads_, *kernels_), unit_block);
    Buffer scratch(threads * each, Buffer::Uninitialised{});
    if (ragged(tape)) clear_padding(tape, tape.context);
    parallel(threads, [&](const Team& team) {
        project(team, p, x, tape.lengths, tape.projected);
        team.wait();
        size_t item = 0;  // threads take turns, so that long and short causal rows are shared
        for (size_t n = 0; n < N; ++n)
            for (size_t h = 0; h < heads; ++h) {
                const Head head = head_of(tape, n, h);
                const size_t row = (n * heads + h) * T;
                for (size_t b = 0; b < head.query_blocks(); ++b)
                    if (item++ % team.size == team.index)
                        attend(head, b, tape.context + layout.offset(0, n) + h * heads_.size, layout.step_stride,
                               tape.maximum + row, tape.inverse + row, scratch.data() + team.index * each);
            }
        team.wait();
        convolve(team, {p.out, p.out_start.data(), {}}, {tape.context, layout}, {y, layout});
    });
    if (ragged(tape)) clear_padding(tape, y);
}

// What the threads of one backward share.
struct AttentionFunction::Work {
    const AttentionBackward& packed;
    const AttentionTape& tape;
    const AttentionGradients& gradients;
    ConstSequence x, dy;
    Buffer delta;       // [N, heads, T] sum over keys of weight * dweight
    float* dcontext;    // [N][heads][panels][T][width]
    Buffer dprojected;  // like tape.projected
    // Heads beyond the last round that gives every thread one are shared, thread by thread in turn over their keys.
    std::vector<std::atomic<size_t>> done;
    Buffer scratch;
    size_t each;  // floats of scratch for a thread

    size_t steps() const { return tape.layout.steps; }
    float* own_scratch(const Team& team) { return scratch.data() + team.index * each; }
};

void AttentionFunction::run_backward(const AttentionBackward& p, const AttentionTape& tape, const float* x,
                                     const float* dy, const AttentionGradients& gradients, float* dx) const {
    const Layout& layout = tape.layout;
    Buffer masked(ragged(tape) ? layout.size() : 0, Buffer::Uninitialised{});
    if (ragged(tape)) {
        std::copy_n(dy, layout.size(), masked.data());
        clear_padding(tape, masked.data());
        dy = masked.data();
        if (dx) clear_padding(tape, dx);
    }
    const size_t T = layout.steps, N = layout.rows, D = options_.embed_dim, items = N * heads_.heads;
    const size_t per_item = T * heads_.padded();
    const double flops = static_cast<double>(N * T) * static_cast<double>(16 * D + 10 * T) * static_cast<double>(D);
    const size_t threads = threads_for(flops);
    const size_t each = round_up(
        std::max(attend_backward_scratch(heads_, *kernels_), convolve_gradient_scratch(*kernels_, D, D)), unit_block);
    // Read before dx is written, so it may have the same memory.
    const bool shares = dx && items * per_item == layout.size() && !ragged(tape);
    Buffer own_dcontext(shares ? 0 : items * per_item, Buffer::Uninitialised{});
    Work work{p,
              tape,
              gradients,
              {x, layout},
              {dy, layout},
              Buffer(items * T),
              shares ? dx : own_dcontext.data(),
              Buffer(parts * items * per_item),
              std::vector<std::atomic<size_t>>(threads * threads),
              Buffer(threads * each, Buffer::Uninitialised{}),
              each};
    parallel(threads, [&](const Team& team) {
        output_backward(team, work);
        team.wait();
        heads_backward(team, work);
        team.wait();
        input_backward(team, work, dx);
    });
}

// Gradients of out_proj and of what it reads, and each query's delta.
void AttentionFunction::output_backward(const Team& team, Work& work) const {
    const AttentionTape& tape = work.tape;
    const size_t T = work.steps(), D = options_.embed_dim, heads = heads_.heads;
    project_panels(team, work.packed.out, work.packed.zeros.data(), work.dy, tape.lengths, work.dcontext);
    if (work.gradients.out_weight)
        convolve_gradient(team, *kernels_, Taps{}, {tape.context, tape.layout}, work.dy, work.gradients.out_weight,
                          work.own_scratch(team));
    if (const Range own = split(D, team.size, team.index, unit_block); work.gradients.out_bias && own.size())
        kernels_->column_sums(T * tape.layout.rows, own.size(), work.dy.base + own.begin, D,
                              work.gradients.out_bias + own.begin);
    team.wait();
    for (size_t item = team.index; item < tape.layout.rows * heads; item += team.size) {
        const size_t n = item / heads, h = item % heads;
        RowDots dots;
        dots.rows = tape.lengths[n];
        dots.columns = heads_.size;
        dots.panels = work.dcontext + item * T * heads_.padded();
        dots.width = heads_.width();
        dots.plane = T * heads_.width();
        dots.y = tape.context + tape.layout.offset(0, n) + h * heads_.size;
        dots.y_stride = tape.layout.step_stride;
        dots.sums = work.delta.data() + item * T;
        kernels_->row_dots(dots);
    }
}

// Gradients of Q, K and V: whole heads, a thread each, then what is left shared by all.
void AttentionFunction::heads_backward(const Team& team, Work& work) const {
    const size_t T = work.steps(), heads = heads_.heads, each = T * heads_.padded(),
                 items = work.tape.layout.rows * heads;
    const auto head_backward = [&](size_t item, size_t part, size_t of, const Turn& turn) {
        const size_t n = item / heads, h = item % heads;
        const Head head = head_of(work.tape, n, h);
        float* row = work.dprojected.data() + n * parts * heads * each;
        HeadGradients g{};
        g.dcontext = work.dcontext + item * each;
        g.maximum = work.tape.maximum + item * T;
        g.inverse = work.tape.inverse + item * T;
        g.delta = work.delta.data() + item * T;
        g.dq = row + (part_q * heads + h) * each;
        g.dk = row + (part_k * heads + h) * each;
        g.dv = row + (part_v * heads + h) * each;
        g.scale = scale_;
        const size_t key_blocks = (head.keys + key_block_backward - 1) / key_block_backward;
        attend_backward(head, g, split(key_blocks, of, part), turn, work.own_scratch(team));
    };
    const size_t whole = items / team.size * team.size, threads = team.size;
    for (size_t item = team.index; item < whole; item += team.size) head_backward(item, 0, 1, {});
    for (size_t item = whole; item < items; ++item) {
        std::atomic<size_t>* counters = work.done.data() + (item - whole) * threads;
        head_backward(item, team.index, team.size,
                      {team.index ? counters + team.index - 1 : nullptr,
                       team.index + 1 < team.size ? counters + team.index : nullptr});
    }
}

// Gradients of in_proj, and dx unless it is nullptr.
void AttentionFunction::input_backward(const Team& team, Work& work, float* dx) const {
    if (work.gradients.in_weight || work.gradients.in_bias) learn(team, work);
    if (!dx) return;
    const Sequence out{dx, work.tape.layout};
    const size_t T = work.steps(), width = heads_.width(), row = parts * heads_.heads * T * heads_.padded();
    for_own_steps(team, work.tape.lengths, T, [&](size_t n, const Range& own) {
        Gemm g;
        g.rows = own.size();
        g.depth = work.packed.in.depth();
        g.columns = options_.embed_dim;
        g.a = {work.dprojected.data() + n * row + own.begin * width, width, 0, 0};
        g.inner = width;
        g.outer_step = T * width;
        g.panels = work.packed.in.panel(0);
        g.start = work.packed.zeros.data();
        g.c = {out.at(own.begin, n), out.layout.step_stride, 0, 0};
        kernels_->product().run(g);
    });
}

// Each thread adds the rows it owns, over the steps of one row of the batch after another.
void AttentionFunction::learn(const Team& team, Work& work) const {
    const std::vector<size_t>& lengths = work.tape.lengths;
    float* scratch = work.own_scratch(team);
    const size_t T = work.steps(), D = options_.embed_dim, width = heads_.width();
    const size_t panels = parts * heads_.heads * heads_.panels();
    const Range own = split(panels * width, team.size, team.index, unit_block);
    for (size_t n = 0; n < lengths.size(); ++n)
        for (size_t t = 0; t < lengths[n]; t += position_block) {
            const Positions block{{t, std::min(t + position_block, lengths[n])}, {n, n + 1}};
            if (own.size()) pack_positions(work.x, block, kernels_->product().width, scratch);
            for (size_t j = own.begin; j < own.end;) {
                const size_t end = std::min(own.end, (j / width + 1) * width);  // of this panel
                const size_t row = row_behind(heads_, j);
                const float* from = work.dprojected.data() + ((n * panels + j / width) * T + t) * width + j % width;
                Gemm g;
                g.rows = row == none ? 0 : std::min(end - j, heads_.size - j % heads_.padded());
                g.depth = block.count();
                g.columns = D;
                g.a = {from, 1, 0, 0};
                g.step = width;
                g.panels = scratch;
                g.c = {work.gradients.in_weight + row * D, D, 0, 0};
                if (g.rows && work.gradients.in_weight) kernels_->product().run(g);
                if (g.rows && work.gradients.in_bias)
                    kernels_->column_sums(g.depth, g.rows, from, width, work.gradients.in_bias + row);
                j = end;
            }
        }
}

// A tape for a call by address.
void AttentionFunction::open(const AttentionCall& call, AttentionTape& tape) const {
    const Layout& layout = call.x.layout;
    tape.layout = layout;
    tape.lengths.assign(layout.rows, layout.steps);
    tape.keys = tape.lengths;
    if (call.keys) {
        check_lengths(call.keys, layout.rows, {1, layout.steps});
        tape.keys.assign(call.keys, call.keys + layout.rows);
    }
    tape.memory = call.saved;
    lay_out(tape);
}

void AttentionFunction::forward(const AttentionCall& call) const {
    Pool<Workspace>::Loan own(workspaces_);
    uint64_t fingerprint = 0;
    if (!call.saved) {  // in training the weights have changed since the last call
        const size_t D = options_.embed_dim;
        const AttentionParameters& p = call.parameters;
        fingerprint = fingerprint_of(fingerprint_of(0, p.in_weight, 3 * D * D), p.out_weight, D * D);
        if (options_.bias) fingerprint = fingerprint_of(fingerprint_of(fingerprint, p.in_bias, 3 * D), p.out_bias, D);
    }
    if (call.saved || !own->filled || own->fingerprint != fingerprint) {
        own->filled = false;
        if (call.saved) {  // a training step's forward and backward take turns
            own->forward.in.use_memory_of(own->backward.in);
            own->forward.out.use_memory_of(own->backward.out);
        }
        pack(call.parameters, own->forward);
        own->fingerprint = fingerprint;
        own->filled = !call.saved;
    }
    open(call, own->tape);
    run(own->forward, call.x, call.y, own->tape);
}

std::shared_ptr<const AttentionForward> AttentionFunction::packed(const AttentionParameters& p) const {
    auto all = std::make_shared<AttentionForward>();
    pack(p, *all);
    return all;
}

void AttentionFunction::forward(const AttentionCall& call, const AttentionForward& packed) const {
    Pool<Workspace>::Loan own(workspaces_);
    open(call, own->tape);
    run(packed, call.x, call.y, own->tape);
}

void AttentionFunction::backward(const AttentionCall& call, const float* dy, const AttentionGradients& g,
                                 float* dx) const {
    Pool<Workspace>::Loan own(workspaces_);
    own->filled = false;
    own->backward.in.use_memory_of(own->forward.in);
    own->backward.out.use_memory_of(own->forward.out);
    pack(call.parameters, own->backward);
    open(call, own->tape);
    run_backward(own->backward, own->tape, call.x.base, dy, g, dx);
}

}  // namespace rnnfast::core
