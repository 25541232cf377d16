// Stacks of narrow layers over long sequences of few rows, where each thread runs some of the layers.
#include <optional>
#include <string>

#include "helpers.h"
#include "layers/recurrent.h"
#include "runtime/parallel.h"

using namespace rnnfast;
using namespace rnnfast::tests;

namespace {

constexpr size_t steps = 270;  // not a multiple of a block

struct Sequence {
    size_t rows;
    bool ragged, tokens, trains;
};

// Of outputs, last states and, in training, all gradients.
uint64_t bits(const RecurrentOptions& options, const Sequence& s) {
    Recurrent layer(options, 3, active());
    const size_t state = layer.scans() * s.rows * options.hidden_size, out = layer.directions() * options.hidden_size;
    const auto x = random_vector(steps * s.rows * options.input_size, 1), dy = random_vector(steps * s.rows * out, 2);
    const auto start = random_vector(state, 3);
    std::vector<int32_t> tokens;
    for (size_t i = 0; i < steps * s.rows; ++i)
        tokens.push_back(static_cast<int32_t>(random_bits(2, i) % options.input_size));
    std::vector<int64_t> lengths;
    for (size_t n = 0; n < s.rows; ++n) lengths.push_back(static_cast<int64_t>(n % 2 ? steps : n * 80));
    RecurrentInput input{steps, s.rows, s.tokens ? nullptr : x.data(), s.tokens ? tokens.data() : nullptr,
                         s.ragged ? lengths.data() : nullptr};
    std::vector<float> y(steps * s.rows * out), dx(x.size()), h(state), c(state);
    RecurrentTape tape;
    layer.forward(input, {start.data(), start.data()}, y.data(), {h.data(), c.data()}, tape, s.trains, 5);
    uint64_t hash = hash_bits(y.data(), y.size(), hash_bits(c.data(), state, hash_bits(h.data(), state)));
    if (!s.trains) return hash;
    layer.backward(tape, dy.data(), {start.data(), start.data()}, s.tokens ? nullptr : dx.data(), {h.data(), c.data()});
    hash = hash_bits(h.data(), state, hash_bits(dx.data(), dx.size(), hash));
    for (const Parameter& p : layer.parameters) hash = hash_bits(p.grad.data(), p.size(), hash);
    return hash;
}

// The number of threads decides which threads run what: 1 all of it, 2 and 4 layers of their own, 3 units.
void check_bits(const RecurrentOptions& options, const Sequence& s) {
    CAPTURE(options.cell);
    CAPTURE(options.num_layers);
    CAPTURE(s.rows);
    CAPTURE(s.ragged);
    CAPTURE(s.tokens);
    CAPTURE(s.trains);
    const int before = num_threads();
    std::optional<uint64_t> expected;
    for (const int threads : {1, 2, 3, 4}) {
        set_num_threads(threads);
        const uint64_t found = bits(options, s);
        CHECK(found == expected.value_or(found));
        expected = found;
    }
    set_num_threads(before);
}

}  // namespace

TEST_CASE("layers that threads run one behind another give the bits of one thread") {
    RecurrentOptions o;
    o.input_size = 11;
    o.hidden_size = 21;
    for (const CellInfo& cell : cells())
        for (o.num_layers = 2; o.num_layers <= 4; o.num_layers += 2)
            for (const size_t rows : {1, 3}) {
                o.cell = cell.name;
                o.dropout = rows == 3 ? 0.3f : 0;
                for (const bool trains : {false, true}) check_bits(o, {rows, rows == 3, false, trains});
            }
}

TEST_CASE("so do those that read tokens, of other precisions, or that another option keeps on all threads") {
    RecurrentOptions o;
    o.cell = "lstm";
    o.input_size = 11;
    o.hidden_size = 21;
    o.num_layers = 2;
    o.dropout = 0.3f;
    check_bits(o, {1, false, true, true});
    o.variational = true;
    check_bits(o, {2, true, false, true});
    for (const Weights weights : {Weights::bf16, Weights::int8}) {
        RecurrentOptions other = o;
        other.weights = weights;
        check_bits(other, {1, false, false, weights == Weights::bf16});
    }
    RecurrentOptions other = o;
    other.bidirectional = true;
    check_bits(other, {1, false, false, true});
    other = o;
    other.recompute = true;
    check_bits(other, {1, false, false, true});
    other = o;
    other.weight_drop = 0.4f;
    check_bits(other, {1, false, false, true});
}
