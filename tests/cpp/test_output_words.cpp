// Gradients of the softmax by products in bf16: their words, their values, the same bits everywhere.
#include <algorithm>
#include <limits>
#include <stdexcept>

#include "helpers.h"
#include "layers/softmax_output.h"
#include "ops/packing.h"
#include "runtime/parallel.h"

using namespace rnnfast;
using namespace rnnfast::tests;

namespace {

std::vector<float> rounded(const std::vector<float>& x) {
    std::vector<float> low(x.size());
    round_row(active(), Weights::bf16, x.data(), x.size(), low.data());
    return low;
}

struct Words {
    std::vector<float> across, along, sums;
};

}  // namespace

TEST_CASE("words of the logits' gradients are those of the gradients one by one, and the sums the same everywhere") {
    const size_t rows = 48, width = 32, panels = 2, first = 10, spare = 7;
    std::vector<int32_t> targets(rows, -1);
    for (size_t r = 0; r < 40; ++r) targets[r] = static_cast<int32_t>(r % 20);  // some below `first`, some beyond
    std::vector<float> factor(rows);
    for (size_t r = 0; r < rows; ++r) factor[r] = targets[r] < 0 ? 0.0f : 0.01f + 0.001f * static_cast<float>(r);
    for (const size_t classes : {size_t{1}, size_t{2}, size_t{5}, size_t{8}}) {
        CAPTURE(classes);
        auto e = random_vector(panels * classes * width, 5);
        for (float& x : e) x = std::abs(x);
        std::vector<Words> all;
        for (const Isa& isa : isas()) {
            if (!isa.supported) continue;
            const size_t pairs = (classes + 1) / 2, along_stride = rows / 2 + spare;
            all.push_back({std::vector<float>(panels * pairs * width, 5.0f),
                           std::vector<float>(classes * along_stride, 5.0f), std::vector<float>(classes, 1.0f)});
            Words& w = all.back();
            LossWords s;
            s.first = first;
            s.classes = classes;
            s.rows = rows;
            s.width = width;
            s.exponentials = e.data();
            s.plane = classes * width;
            s.factor = factor.data();
            s.targets = targets.data();
            s.weight = 0.25f;
            s.across = w.across.data();
            s.across_plane = pairs * width;
            s.along = w.along.data();
            s.along_stride = along_stride;
            s.sums = w.sums.data();
            isa.kernels->loss_words(s);
        }
        const auto gradient = [&](size_t v, size_t r) {
            const float probability = e[(r / width * classes + v) * width + r % width] * factor[r];
            return targets[r] == static_cast<int32_t>(first + v) ? probability - 0.25f : probability;
        };
        Words expected = all[0];
        std::vector<double> sums(classes, 1.0);
        const GemmKernel& kernel = active().gemm[gemm_bf16][gemm_wide];
        for (size_t v = 0; v < classes; ++v) {
            std::vector<float> row(rows), next(rows);
            for (size_t r = 0; r < rows; ++r) {
                row[r] = gradient(v, r);
                if (v + 1 < classes) next[r] = gradient(v + 1, r);
                sums[v] += static_cast<double>(row[r]);
            }
            kernel.along(rows, row.data(), expected.along.data() + v * (rows / 2 + spare));
            for (size_t p = 0; v % 2 == 0 && p < panels; ++p)
                kernel.across(std::min(width, rows - p * width), row.data() + p * width,
                              v + 1 < classes ? next.data() + p * width : nullptr,
                              expected.across.data() + (p * ((classes + 1) / 2) + v / 2) * width);
        }
        for (const Words& w : all) {
            CHECK(hash_bits(w.across.data(), w.across.size()) == hash_bits(expected.across.data(), w.across.size()));
            CHECK(hash_bits(w.along.data(), w.along.size()) == hash_bits(expected.along.data(), w.along.size()));
            CHECK(hash_bits(w.sums.data(), classes) == hash_bits(all[0].sums.data(), classes));
            check_close(w.sums.data(), sums.data(), classes, 1e-6);
        }
    }
}

namespace {

struct Case {
    size_t rows, width, classes;
};

// The gradients of a layer's loss, one after the other: of its input, its weight and its bias.
std::vector<float> gradients(const Kernels& kernels, Weights weights, Case c, bool with_bias = true) {
    Parameter weight = make_parameter("weight", {c.classes, c.width}), bias = make_parameter("bias", {c.classes});
    const auto w = random_vector(weight.size(), 1), b = random_vector(bias.size(), 2);
    std::copy(w.begin(), w.end(), weight.value.data());
    std::copy(b.begin(), b.end(), bias.value.data());
    OutputLayer layer(kernels, weights, &weight, with_bias ? &bias : nullptr);
    const auto z = random_vector(c.rows * c.width, 3);
    std::vector<int32_t> targets(c.rows);
    for (size_t r = 0; r < c.rows; ++r) targets[r] = r % 11 == 3 ? -1 : static_cast<int32_t>(r * 389 % c.classes);
    std::vector<double> nll(c.rows);
    std::vector<float> all(c.rows * c.width);
    OutputLayer::LossMemory memory;
    layer.loss(z.data(), c.rows, targets.data(), nll.data(), all.data(), memory);
    layer.add_gradients(memory);
    all.insert(all.end(), weight.grad.data(), weight.grad.data() + weight.size());
    if (with_bias) all.insert(all.end(), bias.grad.data(), bias.grad.data() + bias.size());
    return all;
}

// The same in double precision, from numbers rounded to bf16 where the products round them.
std::vector<double> expected_gradients(Case c) {
    const auto w = rounded(random_vector(c.classes * c.width, 1)), z = rounded(random_vector(c.rows * c.width, 3));
    const auto b = random_vector(c.classes, 2);
    const size_t counted = c.rows - (c.rows + 7) / 11;
    std::vector<double> all(c.rows * c.width + c.classes * (c.width + 1)), logits(c.classes);
    std::vector<float> gradient(c.classes);
    double *dz = all.data(), *dw = dz + c.rows * c.width, *db = dw + c.classes * c.width;
    for (size_t r = 0; r < c.rows; ++r) {
        if (r % 11 == 3) continue;
        double top = -1e30, sum = 0;
        for (size_t v = 0; v < c.classes; ++v) {
            logits[v] = static_cast<double>(b[v]);
            for (size_t k = 0; k < c.width; ++k)
                logits[v] += static_cast<double>(w[v * c.width + k]) * static_cast<double>(z[r * c.width + k]);
            top = std::max(top, logits[v]);
        }
        for (double& x : logits) sum += x = std::exp(x - top);
        for (size_t v = 0; v < c.classes; ++v) {
            const double g = (logits[v] / sum - (r * 389 % c.classes == v)) / static_cast<double>(counted);
            gradient[v] = static_cast<float>(g);
            db[v] += g;
        }
        const auto low = rounded(gradient);
        for (size_t v = 0; v < c.classes; ++v)
            for (size_t k = 0; k < c.width; ++k) {
                dz[r * c.width + k] += static_cast<double>(low[v]) * static_cast<double>(w[v * c.width + k]);
                dw[v * c.width + k] += static_cast<double>(low[v]) * static_cast<double>(z[r * c.width + k]);
            }
    }
    return all;
}

}  // namespace

TEST_CASE("gradients of a bf16 output layer are those of double precision on rounded numbers") {
    for (const Case c : {Case{1, 5, 1024}, Case{37, 33, 1031}, Case{70, 130, 1200}}) {
        CAPTURE(c.classes);
        const auto got = gradients(active(), Weights::bf16, c);
        const auto expected = expected_gradients(c);
        const size_t dz = c.rows * c.width, dw = c.classes * c.width;
        // A gradient close to the middle of two bf16 numbers may be rounded to the other.
        check_close(got.data(), expected.data(), dz, 1e-4);
        check_close(got.data() + dz, expected.data() + dz, dw, 1e-4);
        check_close(got.data() + dz + dw, expected.data() + dz + dw, c.classes, 1e-5);
    }
}

TEST_CASE(
    "an output layer's gradients have the same bits on every ISA and any number of threads, over several blocks of "
    "rows") {
    const int before = num_threads();
    for (const Weights weights : {Weights::f32, Weights::bf16})
        for (const Case c : {Case{37, 33, 1031}, Case{4200, 6, 1025}}) {
            std::vector<float> first;
            for (const Isa& isa : isas()) {
                if (!isa.supported || std::string(isa.kernels->name) == "baseline") continue;
                CAPTURE(std::string(isa.kernels->name));
                for (const int threads : first.empty() ? std::vector<int>{1, 2, 3} : std::vector<int>{2}) {
                    set_num_threads(threads);
                    const auto got = gradients(*isa.kernels, weights, c);
                    if (first.empty()) first = got;
                    CHECK(hash_bits(got.data(), got.size()) == hash_bits(first.data(), first.size()));
                }
            }
            set_num_threads(before);
            const auto without = gradients(active(), weights, c, false);
            CHECK(without.size() == c.rows * c.width + c.classes * c.width);
            CHECK(std::all_of(without.begin(), without.end(), [](float x) { return std::isfinite(x); }));
        }
}
