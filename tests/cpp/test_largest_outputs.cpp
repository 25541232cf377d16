// The argmax and the k largest, found without computing all outputs, are those of all outputs.
#include <algorithm>
#include <functional>
#include <numeric>

#include "helpers.h"
#include "ops/largest_outputs.h"
#include "runtime/parallel.h"

using namespace rnnfast;
using namespace rnnfast::tests;

namespace {

struct Layer {
    size_t inputs, outputs;
    std::vector<float> weight, bias;
};

Layer random_layer(size_t inputs, size_t outputs, double scale = 1.0) {
    return {inputs, outputs, random_vector(inputs * outputs, 1, scale), random_vector(outputs, 2, scale)};
}

void check_largest(const Layer& l, const std::vector<float>& x, const std::vector<int32_t>& never = {}) {
    CAPTURE(l.inputs);
    CAPTURE(l.outputs);
    const size_t rows = x.size() / l.inputs;
    PackedLinear exact(active(), Weights::f32, l.inputs, l.outputs);
    exact.pack(l.weight.data(), l.bias.data());
    LargestOutputs screen;
    screen.pack(active(), l.weight.data(), l.bias.data(), l.inputs, l.outputs);
    std::vector<float> y(rows * l.outputs);
    Buffer left;
    exact.forward(x.data(), l.inputs, rows, y.data(), left);
    std::vector<int32_t> found(rows);
    LargestOutputs::Scratch scratch;
    screen.argmax(exact, x.data(), rows, never, found.data(), scratch);
    for (size_t r = 0; r < rows; ++r) {
        float* own = y.data() + r * l.outputs;
        for (const int32_t id : never) own[id] = -INFINITY;
        REQUIRE(found[r] == std::max_element(own, own + l.outputs) - own);
    }
}

uint32_t bits_of(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

// The outputs among the `count` largest and those that are not finite have the bits of all outputs; others are minus
// infinity, or have them too.
void check_k_largest(const Layer& l, const std::vector<float>& x, std::initializer_list<size_t> counts) {
    CAPTURE(l.inputs);
    CAPTURE(l.outputs);
    PackedLinear exact(active(), Weights::f32, l.inputs, l.outputs);
    exact.pack(l.weight.data(), l.bias.data());
    LargestOutputs screen;
    screen.pack(active(), l.weight.data(), l.bias.data(), l.inputs, l.outputs);
    std::vector<float> all(l.outputs), found(l.outputs);
    Buffer left;
    LargestOutputs::Scratch scratch;
    for (const float* row = x.data(); row < x.data() + x.size(); row += l.inputs) {
        exact.forward(row, l.inputs, 1, all.data(), left);
        for (const size_t count : counts) {
            CAPTURE(count);
            std::vector<float> sorted = all;
            for (float& y : sorted) y = y == y ? y : INFINITY;  // all that are NaN are found
            std::sort(sorted.begin(), sorted.end(), std::greater<>());
            const float last = sorted[std::min(count, l.outputs) - 1];
            for (const bool rows : {false, true}) {
                std::fill(found.begin(), found.end(), -7.0f);
                screen.largest({exact, rows ? l.weight.data() : nullptr, row}, count, found.data(), scratch);
                size_t wrong = 0;
                for (size_t o = 0; o < l.outputs; ++o)
                    wrong += bits_of(found[o]) != bits_of(all[o]) && (!(all[o] < last) || found[o] != -INFINITY);
                REQUIRE(wrong == 0);
            }
        }
    }
}

}  // namespace

TEST_CASE("the largest output is found for every size") {
    for (const size_t outputs : {size_t{1}, size_t{15}, size_t{16}, size_t{63}, size_t{64}, size_t{65}, size_t{1000}})
        for (const size_t inputs : {size_t{1}, size_t{7}, size_t{64}, size_t{301}})
            for (const double scale : {1e-3, 1.0, 30.0}) {
                const Layer l = random_layer(inputs, outputs, scale);
                check_largest(l, random_vector(5 * inputs, 3, scale));
                check_largest(l, std::vector<float>(inputs, 0.0f));  // the bias alone
                if (outputs > 4) check_largest(l, random_vector(40 * inputs, 4), {1, 2});
            }
}

TEST_CASE("outputs that tie, or nearly tie, have the argmax of the exact ones") {
    const size_t inputs = 120, outputs = 400;
    Layer l = random_layer(inputs, outputs);
    for (size_t o = 0; o < outputs; ++o) {  // all rows alike, in groups of four the same
        for (size_t k = 0; k < inputs; ++k)
            l.weight[o * inputs + k] = l.weight[k] * (1.0f + 1e-7f * static_cast<float>((o / 4 * 37) % 100));
        l.bias[o] = 0.25f;
    }
    check_largest(l, random_vector(64 * inputs, 5));
    check_largest(l, random_vector(64 * inputs, 6, 100.0), {0, 1, 2, 3});
    std::fill(l.weight.begin(), l.weight.end(), 0.5f);
    check_largest(l, random_vector(3 * inputs, 7), {0});
    for (size_t o = 0; o < outputs; ++o) l.weight[o * inputs + o % inputs] = 1e4f;  // int8 keeps one number of a row
    check_largest(l, random_vector(64 * inputs, 8));
}

TEST_CASE("most outputs are not computed exactly") {
    const Layer l = random_layer(64, 4000);
    const auto x = random_vector(64, 3);
    LargestOutputs screen;
    screen.pack(active(), l.weight.data(), l.bias.data(), l.inputs, l.outputs);
    LargestOutputs::Scratch scratch;
    PackedLinear exact(active(), Weights::f32, l.inputs, l.outputs);
    exact.pack(l.weight.data(), l.bias.data());
    int32_t largest = -1;
    screen.argmax(exact, x.data(), 1, {}, &largest, scratch);
    REQUIRE(largest >= 0);
    const size_t width = exact.panel_width(), panels = (l.outputs + width - 1) / width;
    size_t computed = 0;
    for (size_t p = 0; p < panels; ++p) {
        Layer poisoned = l;  // a search that computes an output of this panel finds NaN
        for (size_t o = p * width; o < std::min((p + 1) * width, l.outputs); ++o) poisoned.weight[o * l.inputs] = NAN;
        exact.pack(poisoned.weight.data(), poisoned.bias.data());
        int32_t found = -1;
        screen.argmax(exact, x.data(), 1, {}, &found, scratch);
        CHECK((found == -1 || found == largest));
        computed += found == -1;
    }
    CHECK(computed >= 1);
    CHECK(computed <= panels / 8);
}

TEST_CASE("outputs that are NaN or infinite have no largest [N7]") {
    const Layer l = random_layer(30, 100);
    PackedLinear exact(active(), Weights::f32, l.inputs, l.outputs);
    exact.pack(l.weight.data(), l.bias.data());
    LargestOutputs screen;
    screen.pack(active(), l.weight.data(), l.bias.data(), l.inputs, l.outputs);
    std::vector<float> x = random_vector(30, 3);
    x[7] = NAN;
    LargestOutputs::Scratch scratch;
    int32_t found = 0;
    screen.argmax(exact, x.data(), 1, {}, &found, scratch);
    CHECK(found == -1);
    x[7] = 0.1f;
    for (const float bad : {NAN, INFINITY})  // one output alone
        for (const size_t place : {size_t{0}, size_t{57}, size_t{99}}) {
            Layer broken = l;
            broken.bias[place] = bad;
            exact.pack(broken.weight.data(), broken.bias.data());
            screen.pack(active(), broken.weight.data(), broken.bias.data(), l.inputs, l.outputs);
            screen.argmax(exact, x.data(), 1, {}, &found, scratch);
            CHECK(found == -1);
        }
}

TEST_CASE("the k largest outputs are found for every size, on any number of threads") {
    for (const int threads : {1, 3}) {
        const ThreadsForCall use(threads);
        for (const size_t outputs : {size_t{1}, size_t{17}, size_t{64}, size_t{1000}, size_t{5003}})
            for (const size_t inputs : {size_t{1}, size_t{7}, size_t{130}})
                for (const double scale : {1e-3, 1.0, 30.0}) {
                    const Layer l = random_layer(inputs, outputs, scale);
                    check_k_largest(l, random_vector(3 * inputs, 3, scale), {1, 2, 40, 300});
                    check_k_largest(l, std::vector<float>(inputs, 0.0f), {1, 40});
                }
    }
}

TEST_CASE("the k largest of equal, huge, tiny and sparse outputs are those of all outputs") {
    const size_t inputs = 48, outputs = 3000;
    Layer l = random_layer(inputs, outputs);
    for (size_t o = 0; o < outputs; ++o) {  // groups of four the same, all nearly the same
        for (size_t k = 0; k < inputs; ++k)
            l.weight[o * inputs + k] = l.weight[k] * (1.0f + 1e-7f * static_cast<float>((o / 4 * 37) % 100));
        l.bias[o] = 0.25f;
    }
    check_k_largest(l, random_vector(3 * inputs, 5), {1, 3, 40});
    std::fill(l.weight.begin(), l.weight.end(), 0.0f);
    check_k_largest(l, random_vector(inputs, 5), {1, 40});
    for (size_t o = 0; o < outputs; ++o) l.weight[o * inputs + o % inputs] = o % 7 ? 1.0f : 1e4f;
    check_k_largest(l, random_vector(3 * inputs, 6), {1, 40});
    // Sums that overflow on their way, or underflow; with the larger x, a huge and a tiny number in one sum
    for (const double of_weight : {1e-44, 1e-30, 1e-12, 1e12, 1e30, 1e38})
        for (const double of_x : {1e-44, 1e-20, 1.0, 1e9, 1e36}) {
            Layer scaled = random_layer(inputs, outputs, of_weight);
            for (float& b : scaled.bias) b = static_cast<float>(static_cast<double>(b) / of_weight * 1e-3);
            check_k_largest(scaled, random_vector(inputs, 7, of_x), {1, 40});
        }
}

TEST_CASE("the k largest outputs show NaN and infinity as all outputs do [N7]") {
    const Layer l = random_layer(30, 3000);
    std::vector<float> x = random_vector(30, 3);
    for (const float bad : {NAN, INFINITY, -INFINITY})
        for (const size_t place : {size_t{0}, size_t{57}, size_t{2999}}) {
            Layer broken = l;
            broken.bias[place] = bad;
            check_k_largest(broken, x, {1, 40});
            broken.bias[place] = 0;
            broken.weight[place * 30 + 29] = bad;
            check_k_largest(broken, x, {1, 40});
        }
    x[7] = NAN;
    check_k_largest(l, x, {1, 40});
}

TEST_CASE("of 40 largest outputs, few others are computed") {
    const Layer l = random_layer(64, 8000);
    const auto x = random_vector(64, 3);
    PackedLinear exact(active(), Weights::f32, l.inputs, l.outputs);
    exact.pack(l.weight.data(), l.bias.data());
    LargestOutputs screen;
    screen.pack(active(), l.weight.data(), l.bias.data(), l.inputs, l.outputs);
    LargestOutputs::Scratch scratch;
    std::vector<float> y(l.outputs);
    for (const bool rows : {false, true}) {
        screen.largest({exact, rows ? l.weight.data() : nullptr, x.data()}, 40, y.data(), scratch);
        const auto computed = std::count_if(y.begin(), y.end(), [](float v) { return std::isfinite(v); });
        CHECK(computed >= 40);
        CHECK(computed <= (rows ? 200 : 1600));
    }
}
