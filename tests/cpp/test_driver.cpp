// The recurrent driver from C++: finite differences, memory, ragged rows against rows one by one.
#include <algorithm>

#include "helpers.h"
#include "layers/recurrent.h"
#include "runtime/parallel.h"

using namespace rnnfast;
using namespace rnnfast::tests;

namespace {

struct Problem {
    RecurrentOptions options;
    size_t steps = 4, rows = 3;
    std::vector<int64_t> lengths = {2, 4, 3};
    std::vector<float> x, dy;

    explicit Problem(const std::string& cell) {
        options.cell = cell;
        options.input_size = 5;
        options.hidden_size = 7;
        options.num_layers = 2;
        options.bidirectional = true;
        x = random_vector(steps * rows * 5, 1);
        dy = random_vector(steps * rows * 14, 2);
    }
    RecurrentInput input() const { return {steps, rows, x.data(), nullptr, lengths.data()}; }
    double objective(const Recurrent& layer) const {
        RecurrentTape tape;
        std::vector<float> y(dy.size());
        layer.forward(input(), {}, y.data(), {}, tape, false);
        double sum = 0;
        for (size_t i = 0; i < y.size(); ++i) sum += static_cast<double>(y[i]) * static_cast<double>(dy[i]);
        return sum;
    }
};

}  // namespace

TEST_CASE("gradients equal finite differences for every cell") {
    for (const CellInfo& cell : cells()) {
        CAPTURE(std::string(cell.name));
        Problem problem(cell.name);
        Recurrent layer(problem.options, 3, active());
        RecurrentTape tape;
        std::vector<float> y(problem.dy.size()), dx(problem.x.size());
        layer.forward(problem.input(), {}, y.data(), {}, tape, true);
        layer.backward(tape, problem.dy.data(), {}, dx.data(), {});
        const float step = 4e-3f;
        const auto difference = [&](float& value) {
            const float kept = value;
            value = kept + step;
            layer.weights_changed();
            const double above = problem.objective(layer);
            value = kept - step;
            layer.weights_changed();
            const double below = problem.objective(layer);
            value = kept;
            layer.weights_changed();
            return (above - below) / (2.0 * static_cast<double>(step));
        };
        // Central differences in float32: 5e-3 of the value, or of 1 where it is small. relu bends, as the candidate of
        // the minimal cells does, so they get more.
        const bool bends = cell.kernel == cell_rnn_relu || cell.kernel == cell_mingru || cell.kernel == cell_minlstm;
        const double tolerance = bends ? 3e-2 : 5e-3;
        for (Parameter& p : layer.parameters)
            for (size_t i = 0; i < p.size(); i += 1 + p.size() / 5) {
                CAPTURE(p.name);
                const double numeric = difference(p.value.data()[i]);
                CHECK(std::abs(numeric - static_cast<double>(p.grad.data()[i])) <
                      tolerance * std::max(1.0, std::abs(numeric)));
            }
        for (size_t i = 0; i < problem.x.size(); i += 7) {
            const double numeric = difference(problem.x[i]);
            CHECK(std::abs(numeric - static_cast<double>(dx[i])) < tolerance * std::max(1.0, std::abs(numeric)));
        }
    }
}

TEST_CASE("ragged rows are bit-identical to each row alone") {
    for (const CellInfo& cell : cells()) {
        Problem problem(cell.name);
        const Recurrent layer(problem.options, 3, active());
        RecurrentTape tape;
        std::vector<float> y(problem.dy.size());
        layer.forward(problem.input(), {}, y.data(), {}, tape, false);
        for (size_t n = 0; n < problem.rows; ++n) {
            const auto length = static_cast<size_t>(problem.lengths[n]);
            std::vector<float> x, alone(length * 14);
            for (size_t t = 0; t < length; ++t)
                x.insert(x.end(), problem.x.begin() + static_cast<ptrdiff_t>((t * 3 + n) * 5),
                         problem.x.begin() + static_cast<ptrdiff_t>((t * 3 + n + 1) * 5));
            layer.forward({length, 1, x.data(), nullptr, nullptr}, {}, alone.data(), {}, tape, false);
            for (size_t t = 0; t < problem.steps; ++t)
                for (size_t j = 0; j < 14; ++j)
                    REQUIRE(y[(t * 3 + n) * 14 + j] == (t < length ? alone[t * 14 + j] : 0.0f));
        }
    }
}

TEST_CASE("the split of work covers everything once") {
    for (size_t count = 0; count < 40; ++count)
        for (size_t parts = 1; parts < 6; ++parts)
            for (const size_t grain : {1, 3, 16}) {
                size_t at = 0;
                for (size_t i = 0; i < parts; ++i) {
                    const Range r = split(count, parts, i, grain);
                    REQUIRE(r.begin == at);
                    REQUIRE((r.begin % grain == 0 || r.begin == count));
                    at = r.end;
                }
                REQUIRE(at == count);
            }
}

TEST_CASE("a team meets at its barrier as often as asked") {
    std::atomic<int> arrived{0};
    std::atomic<bool> late{false};
    parallel(3, [&](const Team& team) {
        for (int round = 1; round <= 200; ++round) {
            ++arrived;
            team.wait();
            if (arrived.load() < round * static_cast<int>(team.size)) late = true;
            team.wait();
        }
    });
    CHECK_FALSE(late);
}

TEST_CASE("unknown names list the known ones") {
    std::string names;
    for (const CellInfo& cell : cells()) names += (names.empty() ? "" : ", ") + std::string(cell.name);
    CHECK_THROWS_WITH(cell_named("lstn"), ("unknown cell 'lstn': expected one of " + names).c_str());
    CHECK_THROWS_AS(kernels_named("avx3"), std::invalid_argument);
}
