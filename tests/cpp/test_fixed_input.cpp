// Time-invariant inputs are computed once per row; the result equals that of the same inputs at every step.
#include "helpers.h"
#include "layers/recurrent.h"

using namespace rnnfast;
using namespace rnnfast::tests;

namespace {

constexpr size_t steps = 6, rows = 7, hidden = 35, fixed_size = 19;
const int64_t lengths[rows] = {2, 6, 1, 4, 6, 3, 5};

struct Run {
    std::vector<float> y, dx, dfixed;
    std::deque<Parameter>* parameters;
};

Run run(Recurrent& layer, const float* x, const float* fixed, const float* dy, const float* state) {
    const RecurrentOptions& o = layer.options();
    Run r{std::vector<float>(steps * rows * layer.directions() * hidden),
          std::vector<float>(steps * rows * o.input_size), std::vector<float>(rows * o.fixed_size), &layer.parameters};
    RecurrentInput input{steps, rows, x, nullptr, lengths, fixed};
    RecurrentTape tape;
    layer.forward(input, {state, state}, r.y.data(), {}, tape, true);
    layer.backward(tape, dy, {}, r.dx.empty() ? nullptr : r.dx.data(), {},
                   r.dfixed.empty() ? nullptr : r.dfixed.data());
    return r;
}

void check_close(const std::vector<float>& a, const std::vector<float>& b) {
    REQUIRE(a.size() == b.size());
    const std::vector<double> expected(b.begin(), b.end());
    tests::check_close(a.data(), expected.data(), a.size(), 1e-5);
}

}  // namespace

TEST_CASE("fixed inputs equal the same inputs given at every step") {
    for (const CellInfo& cell : cells())
        for (const size_t input_size : {0, 5})
            for (const bool bidirectional : {false, true}) {
                CAPTURE(std::string(cell.name));
                CAPTURE(input_size);
                CAPTURE(bidirectional);
                RecurrentOptions o;
                o.cell = cell.name;
                o.input_size = input_size;
                o.fixed_size = fixed_size;
                o.hidden_size = hidden;
                o.num_layers = 2;
                o.bidirectional = bidirectional;
                Recurrent apart(o, 3, active());
                const size_t width = input_size + fixed_size;
                o.input_size = width;
                o.fixed_size = 0;
                Recurrent joined(o, 3, active());

                const auto x = random_vector(steps * rows * input_size, 1), fixed = random_vector(rows * fixed_size, 2);
                const auto dy = random_vector(steps * rows * apart.directions() * hidden, 3);
                const auto state = random_vector(apart.scans() * rows * hidden, 4);
                std::vector<float> both(steps * rows * width);
                for (size_t i = 0; i < steps * rows; ++i) {
                    std::copy_n(x.data() + i * input_size, input_size, both.data() + i * width);
                    std::copy_n(fixed.data() + i % rows * fixed_size, fixed_size, both.data() + i * width + input_size);
                }
                const Run a = run(apart, x.data(), fixed.data(), dy.data(), state.data());
                const Run b = run(joined, both.data(), nullptr, dy.data(), state.data());
                check_close(a.y, b.y);
                std::vector<float> dx(a.dx.size()), dfixed(a.dfixed.size());
                for (size_t i = 0; i < steps * rows; ++i) {
                    std::copy_n(b.dx.data() + i * width, input_size, dx.data() + i * input_size);
                    for (size_t j = 0; j < fixed_size; ++j)
                        dfixed[i % rows * fixed_size + j] += b.dx[i * width + input_size + j];
                }
                check_close(a.dx, dx);
                check_close(a.dfixed, dfixed);
                for (size_t p = 0; p < a.parameters->size(); ++p) {
                    CAPTURE((*a.parameters)[p].name);
                    const Buffer &g = (*a.parameters)[p].grad, &h = (*b.parameters)[p].grad;
                    check_close({g.data(), g.data() + g.size()}, {h.data(), h.data() + h.size()});
                }
            }
}

TEST_CASE("a layer that reads nothing runs on its biases and its state") {
    RecurrentOptions o;
    o.cell = "gru";
    o.hidden_size = hidden;
    Recurrent nothing(o, 3, active());
    CHECK(nothing.parameters.size() == 3);  // no weight_ih
    o.input_size = 2;
    Recurrent zeros(o, 4, active());
    for (Parameter& p : nothing.parameters)
        for (Parameter& q : zeros.parameters)
            if (p.name == q.name) std::copy_n(p.value.data(), p.size(), q.value.data());
    zeros.weights_changed();
    const std::vector<float> x(steps * rows * 2);
    const auto dy = random_vector(steps * rows * hidden, 3), state = random_vector(rows * hidden, 4);
    const Run a = run(nothing, nullptr, nullptr, dy.data(), state.data());
    const Run b = run(zeros, x.data(), nullptr, dy.data(), state.data());
    CHECK(a.y == b.y);
    for (Parameter& p : nothing.parameters)
        for (Parameter& q : zeros.parameters)
            if (p.name == q.name) CHECK(std::memcmp(p.grad.data(), q.grad.data(), p.size() * sizeof(float)) == 0);
}
