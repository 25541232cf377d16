// Cells without a recurrent product: one result on every instruction set and number of threads.
#include <optional>
#include <string>

#include "helpers.h"
#include "layers/recurrent.h"
#include "model_files.h"
#include "runtime/parallel.h"

using namespace rnnfast;
using namespace rnnfast::tests;

namespace {

// Of a forward and a backward over rows of different length, with all gradients.
uint64_t bits(const RecurrentOptions& options, size_t rows, const Kernels& kernels) {
    const size_t steps = 9;
    Recurrent layer(options, 3, kernels);
    const size_t state = layer.scans() * rows * options.hidden_size, out = layer.directions() * options.hidden_size;
    const auto x = random_vector(steps * rows * options.input_size, 1), dy = random_vector(steps * rows * out, 2);
    const auto start = random_vector(state, 3), dend = random_vector(state, 4);
    const auto past = random_vector(rows * options.input_size, 5);
    std::vector<float> y(steps * rows * out), dx(x.size()), h(state), c(state), dpast(past.size());
    const bool carries = layer.carried_inputs() > 0;
    std::vector<int64_t> lengths(rows);
    for (size_t n = 0; n < rows; ++n) lengths[n] = static_cast<int64_t>(1 + (5 * n + 8) % steps);
    RecurrentTape tape;
    layer.forward({steps, rows, x.data(), nullptr, lengths.data()},
                  {start.data(), start.data(), carries ? past.data() : nullptr}, y.data(), {}, tape, true);
    layer.backward(tape, dy.data(), {dend.data(), dend.data()}, dx.data(),
                   {h.data(), c.data(), carries ? dpast.data() : nullptr});
    uint64_t hash = hash_bits(c.data(), state, hash_bits(h.data(), state, hash_bits(dx.data(), dx.size())));
    for (const Parameter& p : layer.parameters) hash = hash_bits(p.grad.data(), p.size(), hash);
    if (carries) hash = hash_bits(dpast.data(), dpast.size(), hash);
    return hash_bits(y.data(), y.size(), hash);
}

}  // namespace

TEST_CASE("cells without a recurrent product give the same bits on every ISA with FMA and any number of threads") {
    const int before = num_threads();
    RecurrentOptions options;
    options.hidden_size = options.input_size = 83;
    options.num_layers = 2;
    std::vector<RecurrentOptions> all;
    for (const CellInfo& cell : cells()) {
        if (cell.recurrent) continue;
        options.cell = cell.name;
        const size_t widest = cell.highway ? 1 : 2;
        for (options.window = 1; options.window <= widest; ++options.window)
            for (const bool both : {true, false}) {
                options.bidirectional = both;
                all.push_back(options);
            }
    }
    for (const RecurrentOptions& each : all) {
        CAPTURE(each.cell);
        CAPTURE(each.window);
        for (const size_t rows : {1, 37}) {
            std::optional<uint64_t> expected;
            for (const Isa& isa : isas()) {
                if (!isa.supported || std::string(isa.kernels->name) == "baseline") continue;
                CAPTURE(std::string(isa.kernels->name));
                for (const int threads : expected ? std::vector<int>{2} : std::vector<int>{1, 2, 5}) {
                    set_num_threads(threads);
                    const uint64_t found = bits(each, rows, *isa.kernels);
                    CHECK(found == expected.value_or(found));
                    expected = found;
                }
            }
        }
    }
    set_num_threads(before);
}

TEST_CASE("a window of two steps is for cells whose gates alone read the input") {
    RecurrentOptions options;
    options.input_size = options.hidden_size = 4;
    options.window = 2;
    const auto refusal = [&] { return sentence_of([&] { Recurrent(options, 1, active()); }); };
    for (const char* cell : {"lstm", "sru"}) {
        options.cell = cell;
        CHECK(refusal() ==
              "window is 2: expected a cell without a recurrent product and a highway, such as qrnn, and no fixed "
              "inputs");
    }
    options.cell = "qrnn";
    CHECK(refusal().empty());
    options.fixed_size = 1;
    CHECK(!refusal().empty());
    options.fixed_size = 0;
    options.window = 3;
    CHECK(refusal() == "window is 3: expected 1 or 2");
}
