// Attention over an encoder's outputs: kernels and layer against double, finite differences, and the same bits
// everywhere.
#include <algorithm>
#include <functional>
#include <stdexcept>

#include "helpers.h"
#include "layers/cross_attention.h"

using namespace rnnfast;
using namespace rnnfast::tests;

TEST_CASE("a weighted sum of rows is right at every length, alignment and stride") {
    for (size_t columns = 0; columns <= 9 * active().lanes + 1; ++columns)
        for (size_t shift = 0; shift < 2; ++shift)
            for (const bool add : {false, true}) {
                const size_t rows = 5, stride = columns + 3;
                const auto x = random_vector(shift + rows * stride, 1), weights = random_vector(rows, 2);
                const auto before = random_vector(shift + columns + 1, 3);
                auto y = before;
                WeightedRows w;
                w.rows = rows;
                w.columns = columns;
                w.x = x.data() + shift;
                w.x_stride = stride;
                w.weights = weights.data();
                w.add = add;
                w.y = y.data() + shift;
                active().weighted_rows(w);
                for (size_t j = 0; j < columns; ++j) {
                    double exact = add ? static_cast<double>(before[shift + j]) : 0;
                    for (size_t r = 0; r < rows; ++r)
                        exact += static_cast<double>(weights[r]) * static_cast<double>(w.x[r * stride + j]);
                    REQUIRE(std::abs(static_cast<double>(y[shift + j]) - exact) < 1e-6);
                }
                REQUIRE(y.back() == before.back());
            }
}

TEST_CASE("the additive score and its gradient are right at every length and alignment") {
    for (size_t units = 1; units <= 2 * active().lanes + 17; ++units)
        for (size_t shift = 0; shift < 2; ++shift) {
            const size_t keys = 4, stride = units + 5;
            const auto key = random_vector(shift + keys * stride, 1, 3.0), query = random_vector(shift + units, 2);
            const auto v = random_vector(shift + units, 3), dscores = random_vector(keys, 4);
            std::vector<float> scores(keys + 1, -7.0f);
            AdditiveScores s;
            s.keys = keys;
            s.units = units;
            s.key = key.data() + shift;
            s.key_stride = stride;
            s.query = query.data() + shift;
            s.v = v.data() + shift;
            s.scores = scores.data();
            active().additive_scores(s);
            CHECK(scores[keys] == -7.0f);

            const auto dkey_before = random_vector(shift + keys * stride, 5), dv_before = random_vector(units + 1, 6);
            auto dkey = dkey_before, dv = dv_before;
            std::vector<float> dquery(units + 1, 0.5f);
            AdditiveGradient g;
            g.keys = keys;
            g.units = units;
            g.key = s.key;
            g.key_stride = stride;
            g.query = s.query;
            g.v = s.v;
            g.dscores = dscores.data();
            g.dkey = dkey.data() + shift;
            g.dquery = dquery.data();
            g.dv = dv.data();
            active().additive_gradient(g);
            CHECK(dquery[units] == 0.5f);
            CHECK(dv[units] == dv_before[units]);

            std::vector<double> exact_dquery(units), exact_dv(dv_before.begin(), dv_before.end());
            for (size_t j = 0; j < keys; ++j) {
                double score = 0;
                for (size_t u = 0; u < units; ++u) {
                    const double a =
                        std::tanh(static_cast<double>(s.query[u]) + static_cast<double>(s.key[j * stride + u]));
                    const double d = static_cast<double>(dscores[j]) * static_cast<double>(s.v[u]) * (1 - a * a);
                    score += static_cast<double>(s.v[u]) * a;
                    exact_dquery[u] += d;
                    exact_dv[u] += static_cast<double>(dscores[j]) * a;
                    const size_t at = shift + j * stride + u;
                    REQUIRE(std::abs(static_cast<double>(dkey[at]) - static_cast<double>(dkey_before[at]) - d) < 1e-6);
                }
                REQUIRE(std::abs(static_cast<double>(scores[j]) - score) < 3e-6);
                for (size_t u = units; j + 1 < keys && u < stride; ++u)  // between the rows nothing is touched
                    REQUIRE(dkey[shift + j * stride + u] == dkey_before[shift + j * stride + u]);
            }
            for (size_t u = 0; u < units; ++u) {
                REQUIRE(std::abs(static_cast<double>(dquery[u]) - exact_dquery[u]) < 2e-6);
                REQUIRE(std::abs(static_cast<double>(dv[u]) - exact_dv[u]) < 2e-6);
            }
        }
}

TEST_CASE("the softmax's gradient and tanh are right at every length") {
    for (size_t size = 1; size <= 2 * active().lanes + 17; ++size) {
        const auto weights = random_vector(size, 1), before = random_vector(size + 1, 2, 4.0);
        auto x = before;
        active().softmax_gradient(size, weights.data(), x.data());
        double dot = 0;
        for (size_t i = 0; i < size; ++i) dot += static_cast<double>(weights[i]) * static_cast<double>(before[i]);
        for (size_t i = 0; i < size; ++i)
            REQUIRE(std::abs(static_cast<double>(x[i]) -
                             static_cast<double>(weights[i]) * (static_cast<double>(before[i]) - dot)) < 1e-5);
        CHECK(x[size] == before[size]);

        auto y = before, dy = before;
        active().tanh(size, y.data());
        active().tanh_gradient(size, y.data(), dy.data());
        for (size_t i = 0; i < size; ++i) {
            const double a = std::tanh(static_cast<double>(before[i]));
            REQUIRE(std::abs(static_cast<double>(y[i]) - a) < 4e-7);
            REQUIRE(std::abs(static_cast<double>(dy[i]) - static_cast<double>(before[i]) * (1 - a * a)) < 3e-6);
        }
        CHECK(y[size] == before[size]);
        CHECK(dy[size] == before[size]);
    }
}

namespace {

constexpr AttentionKind kinds[] = {AttentionKind::additive, AttentionKind::dot, AttentionKind::general};

// Attention of given states over a given memory. What additive attention gives is the context, what dot and general
// give the combined state; the objective is its product with fixed numbers.
struct Problem {
    AttentionKind kind;
    size_t S, T, N, H, C;
    std::vector<size_t> lengths;
    std::vector<float> values, states, first, weights_of_result;  // first: the state before, additive's first query
    CrossAttention attention;
    CrossAttentionTape tape;
    Buffer keys, scratch;
    std::vector<float> result, dvalues, dstates, dfirst;

    Problem(AttentionKind kind_, size_t S_, size_t T_, std::vector<size_t> lengths_, size_t H_, size_t C_,
            const Kernels& kernels = active())
        : kind(kind_),
          S(S_),
          T(T_),
          N(lengths_.size()),
          H(H_),
          C(C_),
          lengths(std::move(lengths_)),
          values(random_vector(S * N * C, 1, 2.0)),
          states(random_vector(T * N * H, 2, 2.0)),
          first(random_vector(N * H, 3, 2.0)),
          weights_of_result(random_vector(T * N * width(), 4)),
          attention({kind, H, C, Weights::f32}, 5, kernels),
          keys(attention.keys_size(S, N)),
          result(T * N * width()) {}

    bool additive() const { return kind == AttentionKind::additive; }
    size_t width() const { return additive() ? C : H; }
    AttentionMemory memory() const { return {S, N, values.data(), keys.data(), lengths.data()}; }
    const float* query(size_t t) const { return t && additive() ? states.data() + (t - 1) * N * H : first.data(); }
    void weights_changed() { attention.weights_changed(); }
    Parameters parameters() { return attention.parameters(); }

    double objective() {
        attention.keys(values.data(), S, N, keys.data(), scratch);
        const AttentionMemory m = memory();
        if (additive()) {
            tape.targets.set(nullptr, T, N);
            attention.start(m, tape);
            for (size_t t = 0; t < T; ++t) {
                float* projected = tape.query.data() + t * N * H;
                attention.project(query(t), H, N, projected, scratch);
                for (size_t n = 0; n < N; ++n)
                    attention.attend_row(m, n, projected + n * H, tape.weights.data() + (t * N + n) * S,
                                         result.data() + (t * N + n) * C);
            }
        } else {
            attention.forward(m, states.data(), T, {0, T}, result.data(), tape);
        }
        double sum = 0;
        for (size_t i = 0; i < result.size(); ++i)
            sum += static_cast<double>(result[i]) * static_cast<double>(weights_of_result[i]);
        return sum;
    }

    void differentiate() {
        objective();
        const AttentionMemory m = memory();
        dvalues.assign(values.size(), 0.0f);
        dstates.assign(states.size(), 0.0f);
        dfirst.assign(first.size(), 0.0f);
        if (!additive())
            return attention.backward(m, states.data(), weights_of_result.data(), nullptr, tape, dstates.data(),
                                      dvalues.data());
        attention.start_backward(m, tape);
        for (size_t t = T; t-- > 0;) {
            for (size_t n = 0; n < N; ++n)
                attention.attend_row_backward(m, n, t * N + n, weights_of_result.data() + (t * N + n) * C, tape);
            float* to = t ? dstates.data() + (t - 1) * N * H : dfirst.data();
            attention.project_backward(tape.dquery.data() + t * N * H, N, to, H);
        }
        attention.finish_backward(m, first.data(), states.data(), weights_of_result.data(), C, tape, dvalues.data());
    }

    uint64_t bits() {
        uint64_t hash = hash_bits(result.data(), result.size());
        for (const auto* x : {&dvalues, &dstates, &dfirst}) hash = hash_bits(x->data(), x->size(), hash);
        for (const Parameter* p : parameters()) hash = hash_bits(p->grad.data(), p->size(), hash);
        return hash;
    }
};

const float* parameter(Problem& p, const std::string& name) {
    for (const Parameter* each : p.parameters())
        if (each->name == "attention." + name) return each->value.data();
    throw std::invalid_argument("no parameter " + name);
}

double at(const float* matrix, size_t columns, size_t row, const double* x) {
    double sum = 0;
    for (size_t j = 0; j < columns; ++j) sum += static_cast<double>(matrix[row * columns + j]) * x[j];
    return sum;
}

// The result of one query in double, from the three formulas.
std::vector<double> in_double(Problem& p, size_t t, size_t n) {
    const float* state = p.additive() ? p.query(t) + n * p.H : p.states.data() + (t * p.N + n) * p.H;
    const std::vector<double> s(state, state + p.H);
    std::vector<double> weights(p.lengths[n]), context(p.C);
    double sum = 0;
    for (size_t j = 0; j < weights.size(); ++j) {
        const float* row = p.values.data() + (j * p.N + n) * p.C;
        const std::vector<double> m(row, row + p.C);
        double score = 0;
        for (size_t u = 0; u < p.H; ++u) {
            if (p.kind == AttentionKind::dot) score += s[u] * m[u];
            if (p.kind == AttentionKind::general) score += s[u] * at(parameter(p, "weight"), p.C, u, m.data());
            if (p.additive())
                score += static_cast<double>(parameter(p, "score.weight")[u]) *
                         std::tanh(at(parameter(p, "query.weight"), p.H, u, s.data()) +
                                   at(parameter(p, "key.weight"), p.C, u, m.data()) +
                                   static_cast<double>(parameter(p, "key.bias")[u]));
        }
        weights[j] = std::exp(score);
        sum += weights[j];
        for (size_t u = 0; u < p.C; ++u) context[u] += weights[j] * m[u];
    }
    for (double& c : context) c /= sum;
    for (size_t j = 0; j < p.S; ++j) {
        const auto weight = static_cast<double>(p.tape.weights.data()[(t * p.N + n) * p.S + j]);
        if (j < weights.size())
            CHECK(std::abs(weight - weights[j] / sum) < 2e-6);
        else
            CHECK(weight == 0);
    }
    if (p.additive()) return context;
    std::vector<double> joined = context, out(p.H);
    joined.insert(joined.end(), s.begin(), s.end());
    for (size_t u = 0; u < p.H; ++u)
        out[u] = std::tanh(at(parameter(p, "combine.weight"), p.C + p.H, u, joined.data()));
    return out;
}

}  // namespace

TEST_CASE("attention of every kind equals its formula in double, with rows of different length") {
    for (const AttentionKind kind : kinds)
        for (const size_t H : {1, 6, 17, 40}) {
            CAPTURE(static_cast<int>(kind));
            CAPTURE(H);
            Problem p(kind, 9, 3, {9, 1, 5}, H, kind == AttentionKind::dot ? H : H + 3);
            p.objective();
            for (size_t t = 0; t < p.T; ++t)
                for (size_t n = 0; n < p.N; ++n)
                    check_close(p.result.data() + (t * p.N + n) * p.width(), in_double(p, t, n).data(), p.width(),
                                3e-6);
        }
}

TEST_CASE("gradients of attention of every kind equal finite differences") {
    for (const AttentionKind kind : kinds) {
        CAPTURE(static_cast<int>(kind));
        Problem p(kind, 5, 3, {5, 2, 1, 4}, 6, kind == AttentionKind::dot ? 6 : 9);
        p.differentiate();
        const float step = 4e-3f;
        const auto check = [&](float& value, float gradient) {
            const float kept = value;
            value = kept + step;
            p.weights_changed();
            const double above = p.objective();
            value = kept - step;
            p.weights_changed();
            const double below = p.objective();
            value = kept;
            p.weights_changed();
            const double numeric = (above - below) / (2.0 * static_cast<double>(step));
            CHECK(std::abs(numeric - static_cast<double>(gradient)) < 5e-3 * std::max(1.0, std::abs(numeric)));
        };
        for (Parameter* parameter : p.parameters())
            for (size_t i = 0; i < parameter->size(); ++i) check(parameter->value.data()[i], parameter->grad.data()[i]);
        for (size_t i = 0; i < p.values.size(); ++i) check(p.values[i], p.dvalues[i]);
        for (size_t i = 0; i < p.states.size(); ++i) check(p.states[i], p.dstates[i]);
        for (size_t i = 0; i < p.first.size(); ++i) check(p.first[i], p.dfirst[i]);
    }
}

TEST_CASE("attention of a row has the same bits alone, in a batch, and with more padding, whatever stands there") {
    for (const AttentionKind kind : kinds) {
        CAPTURE(static_cast<int>(kind));
        const size_t H = 21, C = kind == AttentionKind::dot ? H : 33, T = 2;
        Problem batch(kind, 7, T, {3, 7, 5}, H, C);
        batch.differentiate();
        for (size_t n = 0; n < batch.N; ++n)
            for (const size_t padding : {0, 4}) {
                const size_t length = batch.lengths[n];
                Problem alone(kind, length + padding, T, {length}, H, C);
                const auto copy_row = [&](const std::vector<float>& from, std::vector<float>& to, size_t steps,
                                          size_t width) {
                    for (size_t t = 0; t < steps; ++t)
                        std::copy_n(from.data() + (t * batch.N + n) * width, width, to.data() + t * width);
                };
                std::fill(alone.values.begin(), alone.values.end(), NAN);
                copy_row(batch.values, alone.values, length, C);
                copy_row(batch.states, alone.states, T, H);
                copy_row(batch.first, alone.first, 1, H);
                copy_row(batch.weights_of_result, alone.weights_of_result, T, batch.width());
                alone.objective();
                std::vector<float> result(alone.result.size());
                copy_row(batch.result, result, T, batch.width());
                CHECK(result == alone.result);
                for (float& x : alone.values)
                    if (std::isnan(x)) x = 0.25f;  // gradients of padding are zero times what stands there
                alone.differentiate();
                std::vector<float> dstates(alone.dstates.size()), dvalues(alone.dvalues.size());
                copy_row(batch.dstates, dstates, T, H);
                CHECK(dstates == alone.dstates);
                copy_row(batch.dvalues, dvalues, length, C);
                CHECK(dvalues == alone.dvalues);
            }
    }
}

TEST_CASE("attention gives the recorded bits on every ISA with FMA and any number of threads") {
    const uint64_t golden[] = {10142689351665243824u, 3009505184289982478u, 3412444481841899633u};
    for (size_t k = 0; k < 3; ++k) {
        CAPTURE(k);
        const size_t H = 70, C = kinds[k] == AttentionKind::dot ? H : 101;
        std::vector<uint64_t> seen;
        for (const int threads : {1, 2, 3}) {
            const int before = num_threads();
            set_num_threads(threads);
            Problem p(kinds[k], 19, 6, {19, 3, 17, 8, 1}, H, C);
            p.differentiate();
            set_num_threads(before);
            seen.push_back(p.bits());
        }
        CHECK(seen[0] == seen[1]);
        CHECK(seen[0] == seen[2]);
        if (std::string(active().name) != "baseline") CHECK(seen[0] == golden[k]);
    }
}

TEST_CASE("several hypotheses of one source row get the attention of the row") {
    Problem p(AttentionKind::general, 6, 1, {4, 6}, 10, 12);
    p.objective();
    const std::vector<int32_t> source = {1, 1, 0};
    std::vector<float> states(3 * p.H), weights(3 * p.S), context(3 * p.C);
    for (size_t r = 0; r < 3; ++r)
        std::copy_n(p.states.data() + static_cast<size_t>(source[r]) * p.H, p.H, states.data() + r * p.H);
    Buffer query;
    p.attention.attend(p.memory(), {states.data(), 3, source.data()}, {weights.data(), context.data(), p.C}, query,
                       p.scratch);
    for (size_t r = 0; r < 3; ++r)
        for (size_t j = 0; j < p.S; ++j)
            CHECK(weights[r * p.S + j] == p.tape.weights.data()[static_cast<size_t>(source[r]) * p.S + j]);
}

TEST_CASE("attention that cannot work reports what it expects") {
    const auto make = [](AttentionKind kind, size_t H, size_t C) {
        CrossAttention({kind, H, C, Weights::f32}, 1, active());
    };
    CHECK_THROWS_WITH_AS(make(AttentionKind::dot, 8, 16), doctest::Contains("use 'general'"), std::invalid_argument);
    CHECK_THROWS_AS(make(AttentionKind::additive, 0, 16), std::invalid_argument);
    CHECK_THROWS_AS(make(AttentionKind::none, 8, 8), std::invalid_argument);
    CHECK_THROWS_WITH_AS(named<AttentionKind>("attention", "luong"),
                         doctest::Contains("expected one of 'none', 'additive', 'dot', 'general'"),
                         std::invalid_argument);
    CHECK(named<AttentionKind>("attention", "general") == AttentionKind::general);
}
