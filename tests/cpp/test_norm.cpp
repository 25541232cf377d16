// Layer normalization against double precision, finite differences, and itself on other instruction sets and threads.
#include "layers/norm.h"

#include <algorithm>
#include <string>

#include "helpers.h"
#include "runtime/parallel.h"

using namespace rnnfast;
using namespace rnnfast::tests;

namespace {

struct Case {
    Case(size_t rows_, size_t size_, const LayerNormOptions& options, const Kernels& kernels = active())
        : rows(rows_), size(size_), layer(options, kernels) {
        uint64_t key = 10;
        for (Parameter* p : layer.parameters()) {
            const auto values = random_vector(p->size(), key++);
            std::copy_n(values.data(), p->size(), p->value.data());
        }
    }
    void run() {
        layer.forward(x.data() + 1, rows, y.data() + 1);
        for (Parameter* p : layer.parameters()) p->grad.zero();
        layer.backward(x.data() + 1, dy.data() + 1, rows, dx.data() + 1);
    }
    double objective() {
        layer.forward(x.data() + 1, rows, y.data() + 1);
        double sum = 0;
        for (size_t i = 1; i <= rows * size; ++i) sum += static_cast<double>(y[i]) * static_cast<double>(dy[i]);
        return sum;
    }
    uint64_t bits() {
        run();
        uint64_t hash = hash_bits(dx.data(), dx.size(), hash_bits(y.data(), y.size()));
        for (const Parameter* p : layer.parameters()) hash = hash_bits(p->grad.data(), p->size(), hash);
        return hash;
    }

    size_t rows, size;
    LayerNorm layer;
    // Each begins one float into its memory, and ends one float before its end, which stays as it is.
    std::vector<float> x = random_vector(rows * size + 2, 1, 2.0), dy = random_vector(rows * size + 2, 2);
    std::vector<float> y = std::vector<float>(rows * size + 2, -7.0f), dx = y;
};

}  // namespace

TEST_CASE("a row is normalized at every length and alignment") {
    for (size_t size = 1; size <= 70; ++size) {
        CAPTURE(size);
        Case c(3, size, {size, 1e-5f, true, true});
        c.run();
        const Parameters p = c.layer.parameters();
        std::vector<double> expected(3 * size);
        for (size_t r = 0; r < 3; ++r) {
            const float* x = c.x.data() + 1 + r * size;
            double mean = 0, variance = 0;
            for (size_t j = 0; j < size; ++j) mean += static_cast<double>(x[j]) / static_cast<double>(size);
            for (size_t j = 0; j < size; ++j)
                variance += std::pow(static_cast<double>(x[j]) - mean, 2) / static_cast<double>(size);
            for (size_t j = 0; j < size; ++j)
                expected[r * size + j] = (static_cast<double>(x[j]) - mean) / std::sqrt(variance + 1e-5) *
                                             static_cast<double>(p[0]->value.data()[j]) +
                                         static_cast<double>(p[1]->value.data()[j]);
        }
        // float32 rounding of the mean, magnified where the variance is small
        check_close(c.y.data() + 1, expected.data(), 3 * size, 2e-5);
        for (const std::vector<float>* v : {&c.y, &c.dx}) {
            CHECK(v->front() == -7.0f);
            CHECK(v->back() == -7.0f);
        }
    }
}

TEST_CASE("gradients of layer and RMS normalization equal finite differences") {
    const float step = 1e-2f;
    for (const LayerNormOptions& options : {LayerNormOptions{21, 1e-3f, true, true},
                                            {21, 1e-3f, false, true},
                                            {21, 1e-3f, true, false, false},
                                            {21, 1e-3f, false, false, false}}) {
        Case c(4, 21, options);
        c.run();
        const auto check = [&](float& value, float gradient) {
            const float kept = value;
            value = kept + step;
            const double above = c.objective();
            value = kept - step;
            const double below = c.objective();
            value = kept;
            const double numeric = (above - below) / (2.0 * static_cast<double>(step));
            CHECK(std::abs(numeric - static_cast<double>(gradient)) < 2e-3);
        };
        for (Parameter* p : c.layer.parameters())
            for (size_t i = 0; i < p->size(); ++i) check(p->value.data()[i], p->grad.data()[i]);
        for (size_t i = 1; i <= c.rows * c.size; ++i) check(c.x[i], c.dx[i]);
    }
}

TEST_CASE("layer normalization leaves the bits written down here, on every ISA with FMA and any number of threads") {
    const int before = num_threads();
    for (const Isa& isa : isas()) {
        if (!isa.supported || std::string(isa.kernels->name) == "baseline") continue;
        CAPTURE(isa.kernels->name);
        for (const int threads : {1, 2, 5}) {
            set_num_threads(threads);
            CHECK(Case(700, 203, {203, 1e-5f, true, true}, *isa.kernels).bits() == 11365280639093157642u);
            CHECK(Case(700, 203, {203, 1e-5f, true, false, false}, *isa.kernels).bits() == 4094515374381034366u);
        }
    }
    set_num_threads(before);
}

TEST_CASE("layer normalization of no rows leaves everything as it is, and one of no columns is refused") {
    Case c(0, 5, {5, 1e-5f, true, true});
    c.run();
    for (const Parameter* p : c.layer.parameters())
        for (size_t i = 0; i < p->size(); ++i) CHECK(p->grad.data()[i] == 0.0f);
    CHECK_THROWS_WITH_AS(LayerNorm({}, active()), "LayerNorm: normalized_size must be at least 1",
                         std::invalid_argument);
}
