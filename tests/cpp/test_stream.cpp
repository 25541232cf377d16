// A stream's step allocates nothing and gives the bits of the whole sequence.
#include "allocations.h"
#include "helpers.h"
#include "layers/stream.h"

using namespace rnnfast;
using namespace rnnfast::tests;

TEST_CASE("the counter sees what the library allocates") {
    const long before = allocations;
    const Buffer buffer(16);
    CHECK(allocations > before);
    const long then = allocations;
    void* memory = ::operator new(100);  // a call: what a vector asks for a compiler may leave out
    CHECK(allocations > then);
    ::operator delete(memory);
}

TEST_CASE("a step allocates nothing and is bit-identical to the whole sequence") {
    for (const CellInfo& cell : cells())
        for (const size_t rows : {1, 3, 40}) {
            CAPTURE(std::string(cell.name));
            CAPTURE(rows);
            RecurrentOptions options;
            options.cell = cell.name;
            options.input_size = 21;
            options.hidden_size = 83;
            options.num_layers = 2;
            const Recurrent layer(options, 3, active());
            const size_t steps = 5;
            const std::vector<float> x = random_vector(steps * rows * 21, 1);
            std::vector<float> expected(steps * rows * 83), y(rows * 83);
            RecurrentTape tape;
            layer.forward({steps, rows, x.data(), nullptr, nullptr}, {}, expected.data(), {}, tape, false);
            Stream stream(layer, rows);
            for (size_t t = 0; t < steps; ++t) {
                const long before = allocations;
                stream.step(x.data() + t * rows * 21, y.data());
                REQUIRE(allocations == before);
                REQUIRE(std::memcmp(y.data(), expected.data() + t * y.size(), y.size() * sizeof(float)) == 0);
            }
        }
}
