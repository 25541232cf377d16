// Convolution and attention: their kernels against double, finite differences, and the same bits everywhere.
#include <algorithm>

#include "helpers.h"
#include "layers/conv1d.h"
#include "layers/self_attention.h"

using namespace rnnfast;
using namespace rnnfast::tests;

namespace {

// One block of scores of every query with its own limit, and the same in double.
struct SoftmaxCase {
    size_t keys, queries;
    std::vector<float> scores, maximum, sum, rescale;
    std::vector<int32_t> visible;

    SoftmaxCase(size_t keys_, size_t queries_)
        : keys(keys_),
          queries(queries_),
          scores(random_vector(keys * attention_queries, 1, 20.0)),
          maximum(random_vector(attention_queries, 2, 10.0)),
          sum(attention_queries, 1.5f),
          rescale(attention_queries),
          visible(attention_queries) {
        for (size_t q = 0; q < attention_queries; ++q) visible[q] = static_cast<int32_t>((q * 7 + 1) % (keys + 1));
    }
    AttentionBlock block(bool masked) {
        AttentionBlock b;
        b.keys = keys;
        b.queries = queries;
        b.scores = scores.data();
        b.visible = masked ? visible.data() : nullptr;
        b.maximum = maximum.data();
        b.sum = sum.data();
        b.rescale = rescale.data();
        return b;
    }
};

}  // namespace

TEST_CASE("attention's softmax continues a running maximum and sum, with and without a limit for each query") {
    for (const size_t keys : {1, 2, 37, 128})
        for (const size_t queries : {16, 48, 64})
            for (const bool masked : {false, true}) {
                CAPTURE(keys);
                CAPTURE(masked);
                SoftmaxCase c(keys, queries);
                const SoftmaxCase before = c;
                active().attention_softmax(c.block(masked));
                for (size_t q = 0; q < queries; ++q) {
                    const size_t seen = masked ? static_cast<size_t>(c.visible[q]) : keys;
                    double top = before.maximum[q], sum = 0;
                    for (size_t j = 0; j < seen; ++j)
                        top = std::max(top, static_cast<double>(before.scores[j * attention_queries + q]));
                    REQUIRE(static_cast<double>(c.maximum[q]) == top);
                    for (size_t j = 0; j < keys; ++j) {
                        const double distance = static_cast<double>(before.scores[j * attention_queries + q]) - top;
                        const double exact = j < seen ? std::exp(distance) : 0;
                        const auto weight = static_cast<double>(c.scores[j * attention_queries + q]);
                        // the rounding of the difference, magnified by the exponential, and exp's own error
                        REQUIRE(std::abs(weight - exact) <= (2e-7 + 6e-8 * std::abs(distance)) * exact + 1e-37);
                        if (j >= seen) REQUIRE(weight == 0);  // not merely small
                        sum += exact;
                    }
                    const double factor = std::exp(static_cast<double>(before.maximum[q]) - top);
                    CHECK(std::abs(static_cast<double>(c.rescale[q]) - factor) < 2e-7);
                    CHECK(std::abs(static_cast<double>(c.sum[q]) - (1.5 * factor + sum)) < 2e-6 * (1.5 + sum));
                }
                for (size_t q = queries; q < attention_queries; ++q) REQUIRE(c.sum[q] == 1.5f);
            }
}

TEST_CASE("the softmax of one query is bit-identical to that in a block") {
    for (const size_t keys : {1, 15, 16, 17, 50, 128}) {
        CAPTURE(keys);
        SoftmaxCase c(keys, 64);
        const SoftmaxCase before = c;
        active().attention_softmax(c.block(false));
        for (const size_t q : {0, 33}) {
            std::vector<float> row(keys + 1, -7.0f);
            for (size_t j = 0; j < keys; ++j) row[j] = before.scores[j * attention_queries + q];
            float top = before.maximum[q], sum = 1.5f, rescale = 0;
            AttentionBlock b;
            b.keys = keys;
            b.scores = row.data();
            b.maximum = &top;
            b.sum = &sum;
            b.rescale = &rescale;
            active().attention_softmax_row(b);
            CHECK(top == c.maximum[q]);
            CHECK(sum == c.sum[q]);
            CHECK(rescale == c.rescale[q]);
            for (size_t j = 0; j < keys; ++j) REQUIRE(row[j] == c.scores[j * attention_queries + q]);
            CHECK(row[keys] == -7.0f);
        }
    }
}

TEST_CASE("attention's gradient turns scores into weights and their gradients into those of the scores") {
    const size_t keys = 29, queries = 32, size = keys * attention_queries;
    for (const bool masked : {false, true}) {
        auto scores = random_vector(size, 1, 3.0), dweights = random_vector(size, 2);
        const auto scores0 = scores, dweights0 = dweights;
        const auto maximum = random_vector(64, 3, 3.0), inverse = random_vector(64, 4), delta = random_vector(64, 5);
        std::vector<int32_t> visible(64);
        for (size_t q = 0; q < 64; ++q) visible[q] = static_cast<int32_t>(q % (keys + 1));
        AttentionGradient g;
        g.keys = keys;
        g.queries = queries;
        g.scores = scores.data();
        g.dweights = dweights.data();
        g.visible = masked ? visible.data() : nullptr;
        g.maximum = maximum.data();
        g.inverse = inverse.data();
        g.delta = delta.data();
        active().attention_gradient(g);
        for (size_t j = 0; j < keys; ++j)
            for (size_t q = 0; q < queries; ++q) {
                const size_t i = j * attention_queries + q;
                const bool seen = !masked || static_cast<int32_t>(j) < visible[q];
                const double weight =
                    seen ? std::exp(static_cast<double>(scores0[i]) - static_cast<double>(maximum[q])) *
                               static_cast<double>(inverse[q])
                         : 0;
                const double dscore = weight * (static_cast<double>(dweights0[i]) - static_cast<double>(delta[q]));
                REQUIRE(std::abs(static_cast<double>(scores[i]) - weight) <= 1e-6 * std::abs(weight));
                REQUIRE(std::abs(static_cast<double>(dweights[i]) - dscore) <= 1e-6 * std::abs(weight) + 1e-30);
            }
        CHECK(scores[queries] == scores0[queries]);  // nothing beyond the queries is touched
    }
}

TEST_CASE("dot products of rows work at every length and alignment, over panels of any width") {
    for (const size_t width : {unit_block, 2 * unit_block, 4 * unit_block})
        for (size_t columns = 0; columns <= 4 * unit_block; ++columns)
            for (size_t shift = 0; shift < 2; ++shift) {
                const size_t rows = 3, plane = rows * width;
                const auto x = random_vector(1 + plane * 4, 1), y = random_vector(rows * 70, 2);
                std::vector<float> sums(rows + 1, 0.25f);
                RowDots d;
                d.rows = rows;
                d.columns = columns;
                d.panels = x.data() + shift;
                d.width = width;
                d.plane = plane;
                d.y = y.data() + shift;
                d.y_stride = 70;
                d.sums = sums.data();
                active().row_dots(d);
                for (size_t r = 0; r < rows; ++r) {
                    double exact = 0;
                    for (size_t j = 0; j < columns; ++j)
                        exact += static_cast<double>(d.panels[j / width * plane + r * width + j % width]) *
                                 static_cast<double>(d.y[r * 70 + j]);
                    REQUIRE(std::abs(static_cast<double>(sums[r]) - exact) < 1e-5);
                }
                REQUIRE(sums[rows] == 0.25f);
            }
}

namespace {

struct Problem {
    Layout layout = Layout::time_first(7, 2, 6);
    std::vector<int64_t> lengths = {7, 5};
    std::vector<float> x = random_vector(layout.size(), 1, 2.0), dy = random_vector(layout.size(), 2);

    double weighted(const std::vector<float>& y) const {
        double sum = 0;
        for (size_t i = 0; i < y.size(); ++i) sum += static_cast<double>(y[i]) * static_cast<double>(dy[i]);
        return sum;
    }
};

// Central differences in float32: 5e-3 of the value, or of 1 where it is small.
template <class Layer, class Objective>
void check_gradients(Layer& layer, Problem& problem, const std::vector<float>& dx, Objective objective) {
    const float step = 4e-3f;
    const auto check = [&](float& value, float gradient) {
        const float kept = value;
        value = kept + step;
        layer.weights_changed();
        const double above = objective();
        value = kept - step;
        layer.weights_changed();
        const double below = objective();
        value = kept;
        layer.weights_changed();
        const double numeric = (above - below) / (2.0 * static_cast<double>(step));
        CHECK(std::abs(numeric - static_cast<double>(gradient)) < 5e-3 * std::max(1.0, std::abs(numeric)));
    };
    for (Parameter* p : layer.parameters())
        for (size_t i = 0; i < p->size(); i += 1 + p->size() / 7) check(p->value.data()[i], p->grad.data()[i]);
    for (size_t i = 0; i < dx.size(); i += 5) check(problem.x[i], dx[i]);
}

}  // namespace

TEST_CASE("gradients of convolution and attention equal finite differences") {
    Problem problem;
    std::vector<float> y(problem.layout.size()), dx(problem.layout.size());
    Conv1dOptions c;
    c.in_channels = c.out_channels = 6;
    c.kernel_size = 3;
    c.dilation = 2;
    c.before = 3;
    c.after = 1;
    Conv1d conv(c, 3, active());
    const auto convolved = [&] {
        conv.forward({problem.x.data(), problem.layout}, {y.data(), problem.layout});
        return problem.weighted(y);
    };
    convolved();
    conv.backward({problem.x.data(), problem.layout}, {problem.dy.data(), problem.layout}, dx.data());
    check_gradients(conv, problem, dx, convolved);

    for (const bool causal : {false, true}) {
        SelfAttention attention({6, 2, causal, true}, 3, active());
        SelfAttentionTape tape;
        const auto attended = [&] {
            attention.forward({problem.x.data(), problem.layout}, problem.lengths.data(), y.data(), tape, true);
            return problem.weighted(y);
        };
        attended();
        attention.backward(tape, problem.x.data(), problem.dy.data(), dx.data());
        check_gradients(attention, problem, dx, attended);
    }
}

TEST_CASE("convolution and attention give the recorded bits on every ISA with FMA") {
    const size_t steps = 150, rows = 2, size = 40;
    const Layout layout = Layout::time_first(steps, rows, size);
    const auto x = random_vector(layout.size(), 1), dy = random_vector(layout.size(), 2);
    std::vector<float> y(layout.size()), dx(layout.size());
    const auto hash = [&](const Parameters& parameters) {
        uint64_t bits = hash_bits(dx.data(), dx.size(), hash_bits(y.data(), y.size()));
        for (const Parameter* p : parameters) bits = hash_bits(p->grad.data(), p->size(), bits);
        return bits;
    };
    Conv1dOptions c;
    c.in_channels = c.out_channels = size;
    c.kernel_size = 4;
    c.before = 3;
    Conv1d conv(c, 5, active());
    conv.forward({x.data(), layout}, {y.data(), layout});
    conv.backward({x.data(), layout}, {dy.data(), layout}, dx.data());
    if (std::string(active().name) != "baseline") CHECK(hash(conv.parameters()) == 6632626811955301055u);

    SelfAttention attention({size, 2, true, true}, 5, active());
    SelfAttentionTape tape;
    attention.forward({x.data(), layout}, nullptr, y.data(), tape, true);
    attention.backward(tape, x.data(), dy.data(), dx.data());
    if (std::string(active().name) != "baseline") CHECK(hash(attention.parameters()) == 754790036374897581u);
}
