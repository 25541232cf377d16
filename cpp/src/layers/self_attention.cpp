#include "layers/self_attention.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <stdexcept>

#include "runtime/check.h"
#include "runtime/random.h"

namespace rnnfast::core {

namespace {

enum Part { part_q, part_k, part_v, parts };

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

std::vector<size_t> checked_lengths(const int64_t* lengths, const Layout& layout) {
    if (!lengths) return std::vector<size_t>(layout.rows, layout.steps);
    check_lengths(lengths, layout.rows, {0, layout.steps});
    return {lengths, lengths + layout.rows};
}

}  // namespace

SelfAttention::SelfAttention(const AttentionOptions& options, std::optional<uint64_t> seed, const Kernels& kernels)
    : options_(options), kernels_(&kernels) {
    const size_t D = options.embed_dim, heads = options.num_heads;
    if (D == 0 || heads == 0) throw std::invalid_argument("SelfAttention: embed_dim and num_heads must be at least 1");
    if (D % heads)
        throw std::invalid_argument("SelfAttention: embed_dim is " + std::to_string(D) + " and num_heads " +
                                    std::to_string(heads) + "; expected heads of equal size");
    constexpr size_t most = 0x1fffffff;  // products of two sizes then fit 64 bits
    if (D > most) throw std::invalid_argument("SelfAttention: embed_dim must be at most " + std::to_string(most));
    heads_ = head_panels(kernels, heads, D / heads);
    scale_ = static_cast<float>(1.0 / std::sqrt(static_cast<double>(heads_.size)));
    const bool values = seed.has_value();
    in_weight_ = make_parameter("in_proj_weight", {3 * D, D}, values);
    in_bias_ = make_parameter("in_proj_bias", {options.bias ? 3 * D : 0}, values);
    out_weight_ = make_parameter("out_proj.weight", {D, D}, values);
    out_bias_ = make_parameter("out_proj.bias", {options.bias ? D : 0}, values);
    // PyTorch's initialization; biases are zero
    uniform_(in_weight_, std::sqrt(6.0 / static_cast<double>(4 * D)), random_key(seed.value_or(0), 1));
    uniform_(out_weight_, 1.0 / std::sqrt(static_cast<double>(D)), random_key(seed.value_or(0), 2));
}

void SelfAttention::load(const FileValues& values) {
    for (Parameter* p : parameters()) copy_values(*p, values);
    packed_forward();
    for (Parameter* p : parameters()) p->value = {};
}

void SelfAttention::weights_changed() {
    forward_.weights_changed();
    backward_.weights_changed();
    stamp_.renew();
}

Parameters SelfAttention::parameters() {
    if (!options_.bias) return {&in_weight_, &out_weight_};
    return {&in_weight_, &in_bias_, &out_weight_, &out_bias_};
}

namespace {

// Row of in_proj_weight behind a padded column, or `none` for padding.
constexpr size_t none = static_cast<size_t>(-1);
size_t row_behind(const HeadPanels& heads, size_t column) {
    const size_t unit = column % heads.padded(), head = column / heads.padded();
    return unit < heads.size ? head * heads.size + unit : none;
}

}  // namespace

const SelfAttention::Forward& SelfAttention::packed_forward() const {
    return forward_.get([&](Forward& p) {
        const size_t D = options_.embed_dim;
        if (p.in.depth() == 0) {
            p.in = PackedMatrix(*heads_.kernel, D, parts * heads_.heads * heads_.padded());
            p.out = PackedMatrix(kernels_->product(), D, D);
            p.in_start = Buffer(p.in.padded_columns());
            p.out_start = Buffer(p.out.padded_columns());
        }
        Buffer scaled(D * D, Buffer::Uninitialised{});  // the queries' weights carry the scale of the scores
        for (size_t i = 0; i < D * D; ++i) scaled.data()[i] = in_weight_.value.data()[i] * scale_;
        p.in.fill_from_columns([&](size_t j) -> const float* {
            const size_t row = row_behind(heads_, j);
            if (row == none) return nullptr;
            return row < D ? scaled.data() + row * D : in_weight_.value.data() + row * D;
        });
        p.out.fill_from_columns([&](size_t j) { return out_weight_.value.data() + j * D; });
        for (size_t j = 0; options_.bias && j < p.in.columns(); ++j) {
            const size_t row = row_behind(heads_, j);
            if (row != none) p.in_start.data()[j] = in_bias_.value.data()[row] * (row < D ? scale_ : 1.0f);
        }
        if (options_.bias) std::copy_n(out_bias_.value.data(), D, p.out_start.data());
    });
}

const SelfAttention::Backward& SelfAttention::packed_backward() const {
    return backward_.get([&](Backward& p) {
        const size_t D = options_.embed_dim, padded = heads_.heads * heads_.padded();
        if (p.out.depth() == 0) {
            p.out = PackedMatrix(*heads_.kernel, D, padded);
            p.in = PackedMatrix(kernels_->product(), parts * padded, D);
            p.zeros = Buffer(std::max(p.out.padded_columns(), p.in.padded_columns()));
        }
        Buffer spread(D * padded);  // out_proj with every head padded
        for (size_t o = 0; o < D; ++o)
            for (size_t h = 0; h < heads_.heads; ++h)
                std::copy_n(out_weight_.value.data() + o * D + h * heads_.size, heads_.size,
                            spread.data() + o * padded + h * heads_.padded());
        p.out.fill_from_rows([&](size_t o) { return spread.data() + o * padded; });
        p.in.fill_from_rows([&](size_t j) -> const float* {
            const size_t row = row_behind(heads_, j);
            return row == none ? nullptr : in_weight_.value.data() + row * D;
        });
    });
}

namespace {

// This thread's steps of x times the filter's one tap, into panels [N][columns / width][T][width].
void project(const Team& team, const Filter& filter, const ConstSequence& x, const std::vector<size_t>& lengths,
             float* to) {
    const PackedMatrix& weights = filter.weights;
    const size_t width = weights.width(), panels = weights.padded_columns() / width, steps = x.layout.steps;
    for_own_steps(team, lengths, steps, [&](size_t n, const Range& own) {
        for (size_t p = 0; p < panels; ++p) {
            Gemm g;
            g.rows = own.size();
            g.depth = weights.depth();
            g.columns = width;
            g.a = {x.at(own.begin, n), x.layout.step_stride, 0, 0};
            g.panels = weights.panel(p * width);
            g.start = filter.start + p * width;
            g.c = {to + ((n * panels + p) * steps + own.begin) * width, width, 0, 0};
            weights.kernel().run(g);
        }
    });
}

// Head h of row n in what `project` wrote.
Head head_of(const AttentionTape& tape, const HeadPanels& shape, const Kernels& kernels, bool causal, size_t n,
             size_t h) {
    const size_t each = shape.padded() * tape.layout.steps;  // floats of one head
    const float* row = tape.projected.data() + n * parts * shape.heads * each;
    const auto part = [&](size_t p) { return row + (p * shape.heads + h) * each; };
    return {&shape,       &kernels,     causal,      tape.lengths[n], tape.layout.steps * shape.width(),
            part(part_q), part(part_k), part(part_v)};
}

}  // namespace

void SelfAttention::forward(const ConstSequence& x, const int64_t* lengths, float* y, AttentionTape& tape,
                            bool save) const {
    const uint64_t stamp = stamp_.now();  // before the weights are read
    const Forward& p = packed_forward();
    const Layout& layout = x.layout;
    const size_t T = layout.steps, N = layout.rows, D = options_.embed_dim, heads = heads_.heads;
    tape.layout = layout;
    tape.lengths = checked_lengths(lengths, layout);
    tape.projected.reserve(N * T * parts * heads * heads_.padded());
    tape.context.reserve(layout.size());
    tape.maximum.reserve(N * heads * T);
    tape.inverse.reserve(N * heads * T);
    tape.saved = save;
    tape.weights = stamp;
    const double flops = static_cast<double>(N * T) * static_cast<double>(8 * D + 4 * T) * static_cast<double>(D);
    const size_t threads = threads_for(flops), each = round_up(attend_scratch(heads_, *kernels_), unit_block);
    Buffer scratch(threads * each, Buffer::Uninitialised{});
    if (ragged(tape)) clear_padding(tape, tape.context.data());
    parallel(threads, [&](const Team& team) {
        project(team, {p.in, p.in_start.data(), {}}, x, tape.lengths, tape.projected.data());
        team.wait();
        size_t item = 0;  // threads take turns, so that long and short causal rows are shared
        for (size_t n = 0; n < N; ++n)
            for (size_t h = 0; h < heads; ++h) {
                const Head head = head_of(tape, heads_, *kernels_, options_.causal, n, h);
                const size_t row = (n * heads + h) * T;
                for (size_t b = 0; b < head.query_blocks(); ++b)
                    if (item++ % team.size == team.index)
                        attend(head, b, tape.context.data() + layout.offset(0, n) + h * heads_.size, layout.step_stride,
                               tape.maximum.data() + row, tape.inverse.data() + row,
                               scratch.data() + team.index * each);
            }
        team.wait();
        convolve(team, {p.out, p.out_start.data(), {}}, {tape.context.data(), layout}, {y, layout});
    });
    if (ragged(tape)) clear_padding(tape, y);
}

// What the threads of one backward share.
struct SelfAttention::Work {
    const Backward& packed;
    const AttentionTape& tape;
    ConstSequence x, dy;
    Buffer delta;       // [N, heads, T] sum over keys of weight * dweight
    Buffer dcontext;    // [N][heads][panels][T][width]
    Buffer dprojected;  // like tape.projected
    // Heads beyond the last round that gives every thread one are shared, thread by thread in turn over their keys.
    std::vector<std::atomic<size_t>> done;
    Buffer scratch;
    size_t each;  // floats of scratch for a thread

    size_t steps() const { return tape.layout.steps; }
    float* own_scratch(const Team& team) { return scratch.data() + team.index * each; }
};

void SelfAttention::backward(AttentionTape& tape, const float* x, const float* dy, float* dx) {
    if (!tape.saved) throw std::invalid_argument("backward has already used this tape: run forward again");
    stamp_.check(tape.weights);
    tape.saved = false;
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
    Work work{packed_backward(),
              tape,
              {x, layout},
              {dy, layout},
              Buffer(items * T),
              Buffer(items * per_item, Buffer::Uninitialised{}),
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
void SelfAttention::output_backward(const Team& team, Work& work) {
    const AttentionTape& tape = work.tape;
    const size_t T = work.steps(), D = options_.embed_dim, heads = heads_.heads;
    project(team, {work.packed.out, work.packed.zeros.data(), {}}, work.dy, tape.lengths, work.dcontext.data());
    convolve_gradient(team, *kernels_, Taps{}, {tape.context.data(), tape.layout}, work.dy, out_weight_.grad.data(),
                      work.own_scratch(team));
    if (const Range own = split(D, team.size, team.index, unit_block); options_.bias && own.size())
        kernels_->column_sums(T * tape.layout.rows, own.size(), work.dy.base + own.begin, D,
                              out_bias_.grad.data() + own.begin);
    team.wait();
    for (size_t item = team.index; item < tape.layout.rows * heads; item += team.size) {
        const size_t n = item / heads, h = item % heads;
        RowDots dots;
        dots.rows = tape.lengths[n];
        dots.columns = heads_.size;
        dots.panels = work.dcontext.data() + item * T * heads_.padded();
        dots.width = heads_.width();
        dots.plane = T * heads_.width();
        dots.y = tape.context.data() + tape.layout.offset(0, n) + h * heads_.size;
        dots.y_stride = tape.layout.step_stride;
        dots.sums = work.delta.data() + item * T;
        kernels_->row_dots(dots);
    }
}

// Gradients of Q, K and V: whole heads, a thread each, then what is left shared by all.
void SelfAttention::heads_backward(const Team& team, Work& work) const {
    const size_t T = work.steps(), heads = heads_.heads, each = T * heads_.padded(),
                 items = work.tape.layout.rows * heads;
    const auto head_backward = [&](size_t item, size_t part, size_t of, const Turn& turn) {
        const size_t n = item / heads, h = item % heads;
        const Head head = head_of(work.tape, heads_, *kernels_, options_.causal, n, h);
        float* row = work.dprojected.data() + n * parts * heads * each;
        HeadGradients g{};
        g.dcontext = work.dcontext.data() + item * each;
        g.maximum = work.tape.maximum.data() + item * T;
        g.inverse = work.tape.inverse.data() + item * T;
        g.delta = work.delta.data() + item * T;
        g.dq = row + (part_q * heads + h) * each;
        g.dk = row + (part_k * heads + h) * each;
        g.dv = row + (part_v * heads + h) * each;
        g.scale = scale_;
        const size_t key_blocks = (head.length + key_block_backward - 1) / key_block_backward;
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
void SelfAttention::input_backward(const Team& team, Work& work, float* dx) {
    learn(team, work);
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
void SelfAttention::learn(const Team& team, Work& work) {
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
                g.c = {in_weight_.grad.data() + row * D, D, 0, 0};
                if (g.rows) kernels_->product().run(g);
                if (g.rows && options_.bias)
                    kernels_->column_sums(g.depth, g.rows, from, width, in_bias_.grad.data() + row);
                j = end;
            }
        }
}

void SelfAttention::append(AttentionCache& cache, const float* projected) const {
    const size_t heads = heads_.heads, padded = heads_.padded(), width = heads_.width(),
                 panel = kernels_->product().width;
    if (cache.length == cache.capacity) {
        AttentionCache larger;
        larger.capacity = std::max(query_block, 2 * cache.capacity);
        larger.keys = Buffer(cache.rows * heads * larger.capacity * heads_.size);
        larger.values = Buffer(cache.rows * heads * larger.capacity * padded);
        for (size_t i = 0; i < cache.rows * heads; ++i)
            std::copy_n(cache.keys.data() + i * cache.capacity * heads_.size, cache.capacity * heads_.size,
                        larger.keys.data() + i * larger.capacity * heads_.size);
        for (size_t i = 0; i < cache.rows * heads * heads_.panels(); ++i)
            std::copy_n(cache.values.data() + i * cache.capacity * width, cache.length * width,
                        larger.values.data() + i * larger.capacity * width);
        cache.capacity = larger.capacity;
        cache.keys = std::move(larger.keys);
        cache.values = std::move(larger.values);
    }
    for (size_t i = 0; i < cache.rows * heads; ++i) {
        const size_t n = i / heads, h = i % heads;
        const float* k = projected + ((n * parts + part_k) * heads + h) * padded;
        const float* v = projected + ((n * parts + part_v) * heads + h) * padded;
        float* column = cache.keys.data() + i * cache.capacity * heads_.size +
                        cache.length / panel * panel * heads_.size + cache.length % panel;
        for (size_t d = 0; d < heads_.size; ++d) column[d * panel] = k[d];
        for (size_t p = 0; p < heads_.panels(); ++p)
            std::copy_n(v + p * width, width,
                        cache.values.data() + ((i * heads_.panels() + p) * cache.capacity + cache.length) * width);
    }
    ++cache.length;
}

void SelfAttention::fit(AttentionCache& cache, size_t rows) const {
    const auto text = [](size_t dim, size_t heads, size_t n) {
        return "embed_dim " + std::to_string(dim) + ", num_heads " + std::to_string(heads) + " and " +
               std::to_string(n) + (n == 1 ? " row" : " rows");
    };
    if (cache.length == 0) {
        cache.rows = rows;
        cache.embed_dim = options_.embed_dim;
        cache.num_heads = options_.num_heads;
        cache.kernels = kernels_;
    }
    if (cache.rows != rows || cache.embed_dim != options_.embed_dim || cache.num_heads != options_.num_heads)
        throw std::invalid_argument("SelfAttention: the state is of " +
                                    text(cache.embed_dim, cache.num_heads, cache.rows) + ", this step has " +
                                    text(options_.embed_dim, options_.num_heads, rows) +
                                    "; give the state that this layer returned, or None to start");
    if (cache.kernels != kernels_)
        throw std::invalid_argument("SelfAttention: the state was made for another instruction set; start a new one");
}

void SelfAttention::step(const float* x, size_t rows, AttentionCache& cache, float* y) const {
    const SoleUse use(cache.mutex, "this state of SelfAttention", "start a new one, with None");
    fit(cache, rows);
    const Forward& p = packed_forward();
    const size_t D = options_.embed_dim, heads = heads_.heads, padded = heads_.padded();
    const Layout layout = Layout::time_first(1, rows, D);
    Buffer projected(rows * parts * heads * padded, Buffer::Uninitialised{}), context(rows * D), out(padded);
    Buffer scores(key_block, Buffer::Uninitialised{});
    const Buffer zeros(key_block);
    const Team alone{0, 1, nullptr};
    project(alone, {p.in, p.in_start.data(), {}}, {x, layout}, std::vector<size_t>(rows, 1), projected.data());
    append(cache, projected.data());
    for (size_t i = 0; i < rows * heads; ++i) {
        float top = -3.4e38f, sum = 0, rescale = 0;
        out.zero();
        for (size_t k = 0; k < cache.length; k += key_block) {
            Gemm g;
            g.rows = 1;
            g.depth = heads_.size;
            g.columns = std::min(key_block, cache.length - k);
            g.a = {projected.data() + (i / heads * parts * heads + i % heads) * padded, 0, 0, 0};
            g.panels = cache.keys.data() + (i * cache.capacity + k) * heads_.size;
            g.start = zeros.data();
            g.c = {scores.data(), 0, 0, 0};
            kernels_->product().run(g);
            AttentionBlock b;
            b.keys = g.columns;
            b.scores = scores.data();
            b.maximum = &top;
            b.sum = &sum;
            b.rescale = &rescale;
            kernels_->attention_softmax_row(b);
            if (k) kernels_->scale(padded, rescale, out.data());
            g.depth = b.keys;
            g.columns = padded;
            g.a = {scores.data(), 0, 0, 0};
            g.panels = cache.values.data() + (i * heads_.panels() * cache.capacity + k) * heads_.width();
            g.panel_stride = cache.capacity * heads_.width();
            g.start = nullptr;
            g.c = {out.data(), 0, 0, 0};
            heads_.kernel->run(g);
        }
        kernels_->scale(padded, 1.0f / sum, out.data());
        std::copy_n(out.data(), heads_.size, context.data() + i / heads * D + i % heads * heads_.size);
    }
    convolve(alone, {p.out, p.out_start.data(), {}}, {context.data(), layout}, {y, layout});
}

}  // namespace rnnfast::core
