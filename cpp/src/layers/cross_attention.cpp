#include "layers/cross_attention.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "runtime/random.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

CrossAttention::CrossAttention(const CrossAttentionOptions& options, std::optional<uint64_t> seed,
                               const Kernels& kernels, const std::string& prefix)
    : options_(options), kernels_(&kernels), forward_([options, &kernels] {
          const size_t H = options.query_size, C = options.memory_size;
          const bool additive = options.kind == AttentionKind::additive;
          Forward f;
          if (additive) f.score = Buffer(H);
          if (additive) f.query = PackedLinear(kernels, options.weights, H, H);
          if (options.kind != AttentionKind::dot) f.key = PackedLinear(kernels, options.weights, C, H);
          if (!additive) f.combine = PackedLinear(kernels, options.weights, C + H, H);
          return f;
      }) {
    const size_t H = options.query_size, C = options.memory_size;
    if (H == 0 || C == 0) refuse({"attention: query_size and memory_size must be at least 1"});
    if (options.kind == AttentionKind::none) refuse({"attention: the kind is none"});
    if (options.kind == AttentionKind::dot && H != C)
        refuse({"attention 'dot' multiplies the decoder's state of ", H, " units with the encoder's outputs of ", C,
                ": expected the same size; use 'general', or an encoder in one direction"});
    if (additive()) {
        query_ = add(prefix + "query.weight", {H, H}, H, part_seed(seed, 1));
        key_ = add(prefix + "key.weight", {H, C}, C, part_seed(seed, 2));
        key_bias_ = add(prefix + "key.bias", {H}, C, part_seed(seed, 3));
        score_ = add(prefix + "score.weight", {1, H}, H, part_seed(seed, 4));
        return;
    }
    if (options.kind == AttentionKind::general) key_ = add(prefix + "weight", {H, C}, C, part_seed(seed, 5));
    combine_ = add(prefix + "combine.weight", {H, C + H}, C + H, part_seed(seed, 6));
}

// Uniform in +-1/sqrt(fan_in), as torch.nn.Linear
Parameter* CrossAttention::add(const std::string& name, std::vector<size_t> shape, size_t fan_in,
                               std::optional<uint64_t> seed) {
    parameters_.push_back(make_parameter(name, std::move(shape), seed.has_value()));
    uniform_(parameters_.back(), 1.0 / std::sqrt(static_cast<double>(fan_in)), seed.value_or(0));
    return &parameters_.back();
}

Parameters CrossAttention::parameters() {
    Parameters all;
    for (Parameter& p : parameters_) all.push_back(&p);
    return all;
}

void CrossAttention::weights_changed() {
    forward_.weights_changed();
    query_back_.weights_changed();
}

template <class ValueOf>
const CrossAttention::Forward& CrossAttention::pack(const ValueOf& value_of) const {
    return forward_.get([&](Forward& f) {
        if (query_) f.query.pack(value_of(*query_), nullptr);
        if (key_) f.key.pack(value_of(*key_), key_bias_ ? value_of(*key_bias_) : nullptr);
        if (combine_) f.combine.pack(value_of(*combine_), nullptr);
        if (score_) round_row(*kernels_, options_.weights, value_of(*score_), f.score.size(), f.score.data());
    });
}

const CrossAttention::Forward& CrossAttention::pack() const {
    return pack([](const Parameter& p) { return p.value.data(); });
}

void CrossAttention::load(const FileValues& values) {
    std::deque<Buffer> buffers;
    pack([&](const Parameter& p) { return values(p, buffers.emplace_back()); });
}

size_t CrossAttention::keys_size(size_t steps, size_t rows) const {
    return key_ ? steps * rows * options_.query_size : 0;
}

void CrossAttention::keys(const float* values, size_t steps, size_t rows, float* keys, Buffer& scratch) const {
    if (!key_) return;
    pack().key.forward(values, options_.memory_size, steps * rows, keys, scratch);
}

struct CrossAttention::Row {
    size_t keys;         // of this row
    const float* key;    // key j at key + j * key_stride
    const float* value;  // [C] likewise
    size_t key_stride, value_stride;
};

CrossAttention::Row CrossAttention::row_of(const AttentionMemory& m, size_t row) const {
    const size_t H = options_.query_size, C = options_.memory_size;
    const float* keys = key_ ? m.keys : m.values;
    return {m.lengths[row], keys + row * H, m.values + row * C, m.rows * H, m.rows * C};
}

namespace {

// sums[j] = x . rows_j for rows `stride` apart
void dots(const Kernels& kernels, const float* rows, size_t stride, size_t count, size_t columns, const float* x,
          float* sums) {
    RowDots d;
    d.rows = count;
    d.columns = columns;
    d.panels = rows;
    d.width = stride;  // one panel as wide as the rows lie apart
    d.y = x;
    d.sums = sums;
    kernels.row_dots(d);
}

}  // namespace

void CrossAttention::attend_row(const AttentionMemory& m, size_t row, const float* query, float* weights,
                                float* context) const {
    const Row r = row_of(m, row);
    if (additive()) {
        AdditiveScores s;
        s.keys = r.keys;
        s.units = options_.query_size;
        s.key = r.key;
        s.key_stride = r.key_stride;
        s.query = query;
        s.v = forward_.value().score.data();
        s.scores = weights;
        kernels_->additive_scores(s);
    } else {
        dots(*kernels_, r.key, r.key_stride, r.keys, options_.query_size, query, weights);
    }
    float maximum = -3.4e38f, sum = 0, rescale = 0;
    AttentionBlock b;
    b.keys = r.keys;
    b.scores = weights;
    b.maximum = &maximum;
    b.sum = &sum;
    b.rescale = &rescale;
    kernels_->attention_softmax_row(b);
    kernels_->scale(r.keys, 1.0f / sum, weights);
    std::fill(weights + r.keys, weights + m.steps, 0.0f);
    WeightedRows w;
    w.rows = r.keys;
    w.columns = options_.memory_size;
    w.x = r.value;
    w.x_stride = r.value_stride;
    w.weights = weights;
    w.y = context;
    kernels_->weighted_rows(w);
}

size_t CrossAttention::project_scratch(size_t rows) const { return forward_.value().query.scratch(rows); }

void CrossAttention::project(const float* states, size_t stride, size_t rows, float* query, Buffer& scratch) const {
    forward_.value().query.forward(states, stride, rows, query, scratch, 1);
}

void CrossAttention::attend(const AttentionMemory& m, const AttentionQueries& queries, const Attended& out,
                            Buffer& query, Buffer& scratch) const {
    pack();
    const size_t H = options_.query_size, rows = queries.rows;
    const float* projected = queries.states;
    if (additive()) {
        query.reserve(rows * H);
        forward_.value().query.forward(queries.states, H, rows, query.data(), scratch);
        projected = query.data();
    }
    const auto work = static_cast<double>(m.steps * rows) * static_cast<double>(4 * options_.memory_size + 20 * H);
    parallel(threads_for(work), [&](const Team& team) {
        const Range own = split(rows, team.size, team.index);
        for (size_t r = own.begin; r < own.end; ++r)
            attend_row(m, queries.source ? static_cast<size_t>(queries.source[r]) : r % m.rows, projected + r * H,
                       out.weights + r * m.steps, out.context + r * out.context_stride);
    });
}

void CrossAttention::combine(const float* states, size_t rows, float* joined, float* out, Buffer& scratch) const {
    pack();
    const size_t H = options_.query_size, C = options_.memory_size;
    for (size_t r = 0; r < rows; ++r) std::copy_n(states + r * H, H, joined + r * (C + H) + C);
    forward_.value().combine.forward(joined, C + H, rows, out, scratch);
    kernels_->tanh(rows * H, out);
}

void CrossAttention::start(const AttentionMemory& m, CrossAttentionTape& tape) const {
    pack();
    const size_t queries = tape.targets.steps.total(), H = options_.query_size;
    set_groups(tape.targets, tape.groups.keys.size(), tape.group_rows);
    tape.weights.reserve(queries * m.steps);
    if (additive()) tape.query.reserve(queries * H);
    if (combine_) tape.joined.reserve(queries * (options_.memory_size + H));
    if (combine_) tape.y.reserve(queries * H);
}

void CrossAttention::start_backward(const AttentionMemory& m, CrossAttentionTape& tape) const {
    const size_t queries = tape.targets.steps.total(), H = options_.query_size;
    tape.dscores.reserve(queries * m.steps);
    if (key_) tape.dkeys.reserve(m.steps * m.rows * H);
    if (key_) std::fill_n(tape.dkeys.data(), m.steps * m.rows * H, 0.0f);
    if (!additive()) return;
    tape.dquery.reserve(queries * H);
    tape.dv.reserve(m.rows * H);
    std::fill_n(tape.dv.data(), m.rows * H, 0.0f);
    query_back_.get([&](PackedMatrix& back) {
        if (back.depth() == 0) back = PackedMatrix(kernels_->product(), H, H);
        back.fill_from_rows([&](size_t k) { return query_->value.data() + k * H; });
    });
}

void CrossAttention::attend_row_backward(const AttentionMemory& m, size_t row, size_t q, const float* dcontext,
                                         CrossAttentionTape& tape) const {
    const Row r = row_of(m, row);
    const size_t H = options_.query_size;
    float* dscores = tape.dscores.data() + q * m.steps;
    dots(*kernels_, r.value, r.value_stride, r.keys, options_.memory_size, dcontext, dscores);
    kernels_->softmax_gradient(r.keys, tape.weights.data() + q * m.steps, dscores);
    if (!additive()) return;
    AdditiveGradient g;
    g.keys = r.keys;
    g.units = H;
    g.key = r.key;
    g.key_stride = r.key_stride;
    g.query = tape.query.data() + q * H;
    g.v = forward_.value().score.data();
    g.dscores = dscores;
    g.dkey = tape.dkeys.data() + row * H;
    g.dquery = tape.dquery.data() + q * H;
    g.dv = tape.dv.data() + row * H;
    kernels_->additive_gradient(g);
}

void CrossAttention::project_backward(const float* dquery, size_t rows, float* dstates, size_t stride) const {
    const size_t H = options_.query_size;
    multiply(query_back_.value(), {{dquery, H, 0, 0}, rows}, 0, H, nullptr, {dstates, stride, 0, 0});
}

namespace {

// Rows of N queries or states, `stride` apart.
struct QueryRows {
    const float* base;
    size_t stride, columns;
};

// y[j, row, :] += sum over the row's queries of coefficient[q, j] * x[q, :], queries in order; y: [S, N, columns],
// coefficients: [Q, S]. Threads own rows.
void sum_over_queries(const Team& team, const Kernels& kernels, const RaggedRows& targets, const AttentionMemory& m,
                      const float* coefficients, const QueryRows& x, float* y) {
    const Range own = split(m.rows, team.size, team.index);
    for (size_t r = own.begin; r < own.end; ++r)
        for (size_t t = 0, row = targets.order[r]; t < targets.length[r]; ++t) {
            const size_t q = targets.steps.offset[t] + r;
            WeightedRows w;
            w.rows = 1;
            w.columns = x.columns;
            w.x = x.base + q * x.stride;
            w.add = true;
            for (size_t j = 0; j < m.lengths[row]; ++j) {
                w.weights = coefficients + q * m.steps + j;
                w.y = y + (j * m.rows + row) * x.columns;
                kernels.weighted_rows(w);
            }
        }
}

double pair_flops(const AttentionMemory& m, const RaggedRows& targets, size_t columns) {
    return 2.0 * static_cast<double>(targets.steps.total() * m.steps) * static_cast<double>(columns);
}

}  // namespace

// From dkeys to the key's weights, and on to the values they were made of.
void CrossAttention::keys_gradient(const AttentionMemory& m, CrossAttentionTape& tape, float* dvalues) {
    LinearGradients g{};
    g.x = m.values;
    g.dy = tape.dkeys.data();
    g.weight = key_->value.data();
    g.rows = m.steps * m.rows;
    g.inputs = options_.memory_size;
    g.outputs = options_.query_size;
    g.dx = dvalues;
    g.add = true;
    linear_backward(*kernels_, g, *key_, key_bias_, tape.groups, even_groups(m.steps, m.rows, tape.groups.keys.size()),
                    tape.group_gradients);
}

void CrossAttention::finish_backward(const AttentionMemory& m, const float* first, const float* states,
                                     const float* dcontext, size_t context_stride, CrossAttentionTape& tape,
                                     float* dvalues) {
    const size_t H = options_.query_size;
    const Steps& steps = tape.targets.steps;
    sum_groups(*kernels_, {score_}, tape.groups, tape.group_gradients, [&](size_t group) {
        const Range rows = split(m.rows, tape.groups.count(), group);
        for (size_t n = rows.begin; n < rows.end; ++n) kernels_->add(H, tape.dv.data() + n * H, score_->grad.data());
    });
    tape.scratch.reserve(steps.total() * H);
    float* before = tape.scratch.data();  // the state behind each query
    for_each_row(steps, [&](size_t q, size_t t, size_t r) {
        std::copy_n(t ? states + (steps.offset[t - 1] + r) * H : first + r * H, H, before + q * H);
    });
    LinearGradients g{};
    g.x = before;
    g.dy = tape.dquery.data();
    g.weight = query_->value.data();
    g.rows = steps.total();
    g.inputs = g.outputs = H;
    linear_backward(*kernels_, g, *query_, nullptr, tape.groups, tape.group_rows, tape.group_gradients);
    const QueryRows contexts{dcontext, context_stride, options_.memory_size};
    parallel(threads_for(pair_flops(m, tape.targets, contexts.columns)), [&](const Team& team) {
        sum_over_queries(team, *kernels_, tape.targets, m, tape.weights.data(), contexts, dvalues);
    });
    keys_gradient(m, tape, dvalues);
}

void CrossAttention::forward(const AttentionMemory& m, const float* states, size_t steps, Range part, float* out,
                             CrossAttentionTape& tape) const {
    const size_t H = options_.query_size, wide = options_.memory_size + H;
    if (part.begin == 0) {
        tape.targets.set(nullptr, steps, m.rows);
        start(m, tape);
    }
    const size_t first = part.begin * m.rows, queries = part.size() * m.rows;
    float *joined = tape.joined.data() + first * wide, *y = tape.y.data() + first * H;
    attend(m, {states + first * H, queries}, {tape.weights.data() + first * m.steps, joined, wide}, tape.query,
           tape.scratch);
    combine(states + first * H, queries, joined, y, tape.scratch);
    std::copy_n(y, queries * H, out + first * H);
}

void CrossAttention::backward(const AttentionMemory& m, const float* states, const float* dy, const float* dcontexts,
                              CrossAttentionTape& tape, float* dstates, float* dvalues) {
    const size_t H = options_.query_size, C = options_.memory_size, queries = tape.targets.steps.total(), wide = C + H;
    start_backward(m, tape);
    tape.djoined.reserve(queries * wide);
    tape.dy.reserve(queries * H);
    std::copy_n(dy, queries * H, tape.dy.data());
    kernels_->tanh_gradient(queries * H, tape.y.data(), tape.dy.data());
    LinearGradients g{};
    g.x = tape.joined.data();
    g.dy = tape.dy.data();
    g.weight = combine_->value.data();
    g.rows = queries;
    g.inputs = wide;
    g.outputs = H;
    g.dx = tape.djoined.data();
    linear_backward(*kernels_, g, *combine_, nullptr, tape.groups, tape.group_rows, tape.group_gradients);

    float* dkeys = key_ ? tape.dkeys.data() : dvalues;  // dot: the keys are the values
    parallel(threads_for(pair_flops(m, tape.targets, 2 * C + 2 * H)), [&](const Team& team) {
        const Range own = split(queries, team.size, team.index);
        for (size_t q = own.begin; q < own.end; ++q) {
            const size_t row = q % m.rows;
            const Row r = row_of(m, row);
            if (dcontexts) kernels_->add(C, dcontexts + q * C, tape.djoined.data() + q * wide);
            attend_row_backward(m, row, q, tape.djoined.data() + q * wide, tape);
            std::copy_n(tape.djoined.data() + q * wide + C, H, dstates + q * H);
            WeightedRows w;
            w.rows = r.keys;
            w.columns = H;
            w.x = r.key;
            w.x_stride = r.key_stride;
            w.weights = tape.dscores.data() + q * m.steps;
            w.add = true;
            w.y = dstates + q * H;
            kernels_->weighted_rows(w);
        }
        team.wait();
        sum_over_queries(team, *kernels_, tape.targets, m, tape.dscores.data(), {states, H, H}, dkeys);
        sum_over_queries(team, *kernels_, tape.targets, m, tape.weights.data(), {tape.djoined.data(), wide, C},
                         dvalues);
    });
    if (key_) keys_gradient(m, tape, dvalues);
}

}  // namespace rnnfast::core
