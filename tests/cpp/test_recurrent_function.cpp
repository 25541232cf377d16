// The recurrent layer as a function of the caller's memory gives the bits of the layer that owns its parameters.
#include <algorithm>

#include "helpers.h"
#include "layers/linear_cross_entropy.h"
#include "layers/recurrent_function.h"

using namespace rnnfast;
using namespace rnnfast::tests;

namespace {

constexpr size_t T = 5, N = 4, D = 7, H = 19;

RecurrentOptions options(const std::string& cell, bool bidirectional) {
    RecurrentOptions o;
    o.cell = cell;
    o.input_size = D;
    o.hidden_size = H;
    o.num_layers = 2;
    o.bidirectional = bidirectional;
    return o;
}

// Outputs and gradients of one training step.
struct Result {
    std::vector<float> y, h, c, dx, dh, dc;
    std::vector<std::vector<float>> parameters;

    Result(const Recurrent& layer, size_t rows)
        : y(rows * layer.directions() * H),
          h(layer.scans() * N * H),
          c(h.size()),
          dx(rows * D),
          dh(h.size()),
          dc(h.size()) {}
    RecurrentStateOut end() { return {h.data(), c.data()}; }
    RecurrentStateOut start_gradient() { return {dh.data(), dc.data()}; }
};

struct Inputs {
    std::vector<float> x, h0, c0, dy, dh, dc;
    Inputs(const Recurrent& layer, size_t rows)
        : x(random_vector(rows * D, 1)),
          h0(random_vector(layer.scans() * N * H, 2)),
          c0(random_vector(h0.size(), 3)),
          dy(random_vector(rows * layer.directions() * H, 4)),
          dh(random_vector(h0.size(), 5)),
          dc(random_vector(h0.size(), 6)) {}
    RecurrentState start() const { return {h0.data(), c0.data()}; }
    RecurrentGradients gradients(Result& r) const {
        return {dy.data(), {dh.data(), dc.data()}, r.dx.data(), r.start_gradient()};
    }
};

RecurrentCall call_of(Recurrent& layer, const RecurrentInput& input, const Inputs& in, Result& r,
                      std::vector<float>& saved) {
    RecurrentCall call;
    call.input = input;
    call.start = in.start();
    for (size_t i = 0; i < layer.parameters.size(); i += 4)
        call.parameters.push_back({layer.parameters[i].value.data(), layer.parameters[i + 1].value.data(),
                                   layer.parameters[i + 2].value.data(), layer.parameters[i + 3].value.data(),
                                   nullptr});
    call.y = r.y.data();
    call.saved = saved.data();
    return call;
}

RecurrentCallGradients gradients_of(const Recurrent& layer, const Inputs& in, Result& r) {
    RecurrentCallGradients g;
    g.arrays = in.gradients(r);
    r.parameters.clear();
    for (const Parameter& p : layer.parameters) r.parameters.emplace_back(p.size(), 1e9f);
    for (size_t i = 0; i < layer.parameters.size(); i += 4)
        g.parameters.push_back({r.parameters[i].data(), r.parameters[i + 1].data(), r.parameters[i + 2].data(),
                                r.parameters[i + 3].data(), nullptr, true});
    return g;
}

void check_same(const Result& a, const Result& b, bool has_c) {
    CHECK(a.y == b.y);
    CHECK(a.h == b.h);
    CHECK(a.dx == b.dx);
    CHECK(a.dh == b.dh);
    if (has_c) CHECK(a.c == b.c);
    if (has_c) CHECK(a.dc == b.dc);
    CHECK(a.parameters == b.parameters);
}

Result by_layer(Recurrent& layer, const RecurrentInput& input, const Inputs& in, size_t rows) {
    Result r(layer, rows);
    RecurrentTape tape;
    layer.forward(input, in.start(), r.y.data(), r.end(), tape, true);
    layer.backward(tape, in.dy.data(), {in.dh.data(), in.dc.data()}, r.dx.data(), r.start_gradient());
    for (Parameter& p : layer.parameters) {
        r.parameters.emplace_back(p.grad.data(), p.grad.data() + p.size());
        p.grad.zero();
    }
    return r;
}

}  // namespace

TEST_CASE("a function of the caller's memory has the layer's bits, and a second backward gives them again") {
    for (const char* cell : {"rnn", "gru", "lstm"})
        for (const bool bidirectional : {false, true}) {
            CAPTURE(cell);
            CAPTURE(bidirectional);
            Recurrent layer(options(cell, bidirectional), 1, active());
            const Inputs in(layer, T * N);
            RecurrentInput input;
            input.steps = T;
            input.rows = N;
            input.x = in.x.data();
            const Result want = by_layer(layer, input, in, T * N);

            const RecurrentFunction function(options(cell, bidirectional), active());
            std::vector<float> saved(function.saved_floats(T * N));
            Result got(layer, T * N);
            const RecurrentCall call = call_of(layer, input, in, got, saved);
            function.forward(call, got.end());
            for (const bool use_up : {false, false, true}) {
                RecurrentCallGradients g = gradients_of(layer, in, got);
                g.use_up = use_up;
                function.backward(call, g);
                check_same(want, got, function.cell().has_c);
            }
        }
}

TEST_CASE("one step of few rows, which reads the weights where they are, has the layer's bits") {
    for (const char* cell : {"rnn", "gru", "lstm"})
        for (const bool bidirectional : {false, true})
            for (size_t rows = 1; rows <= N; ++rows) {
                CAPTURE(cell);
                CAPTURE(bidirectional);
                CAPTURE(rows);
                Recurrent layer(options(cell, bidirectional), 1, active());
                const Inputs in(layer, rows);
                RecurrentInput input;
                input.steps = 1;
                input.rows = rows;
                input.x = in.x.data();
                const Result want = by_layer(layer, input, in, rows);
                const RecurrentFunction function(options(cell, bidirectional), active());
                std::vector<float> saved(function.saved_floats(rows));
                Result got(layer, rows);
                const RecurrentCall call = call_of(layer, input, in, got, saved);
                function.forward(call, got.end());
                function.backward(call, gradients_of(layer, in, got));
                check_same(want, got, function.cell().has_c);
            }
}

TEST_CASE("the gradients of one row are those of two of which the other has none") {
    for (const char* cell : {"rnn", "gru", "lstm"}) {
        CAPTURE(cell);
        Recurrent layer(options(cell, false), 1, active());
        const Inputs one(layer, 1);
        Inputs two(layer, 2);
        for (std::vector<float>* gradient : {&two.dy, &two.dh, &two.dc})
            std::fill(gradient->begin(), gradient->end(), 0.0f);
        std::copy_n(one.x.data(), D, two.x.data());
        std::copy_n(one.dy.data(), H, two.dy.data());
        for (size_t scan = 0; scan < layer.scans(); ++scan)
            for (auto state : {&Inputs::h0, &Inputs::c0, &Inputs::dh, &Inputs::dc})
                std::copy_n((one.*state).data() + scan * H, H, (two.*state).data() + scan * 2 * H);
        const auto gradients = [&](const Inputs& in, size_t rows) {
            RecurrentInput input;
            input.steps = 1;
            input.rows = rows;
            input.x = in.x.data();
            return by_layer(layer, input, in, rows).parameters;
        };
        CHECK(gradients(one, 1) == gradients(two, 2));
    }
}

TEST_CASE("packed rows are those of lengths without their padding") {
    const int64_t lengths[] = {5, 5, 3, 1}, batch_sizes[] = {4, 3, 3, 2, 2};
    const size_t total = 14;
    for (const char* cell : {"rnn", "gru", "lstm"})
        for (const bool bidirectional : {false, true}) {
            Recurrent layer(options(cell, bidirectional), 1, active());
            const Inputs in(layer, total);
            Result got(layer, total);
            const RecurrentFunction function(options(cell, bidirectional), active());
            std::vector<float> saved(function.saved_floats(total));
            RecurrentInput input;
            input.steps = T;
            input.rows = N;
            input.batch_sizes = batch_sizes;
            input.x = in.x.data();
            const RecurrentCall call = call_of(layer, input, in, got, saved);
            function.forward(call, got.end());
            function.backward(call, gradients_of(layer, in, got));

            // The same rows padded, through the layer that knows lengths.
            const size_t width = layer.directions() * H;
            Inputs padded(layer, T * N);
            padded.h0 = in.h0, padded.c0 = in.c0, padded.dh = in.dh, padded.dc = in.dc;
            size_t at = 0;
            for (size_t t = 0; t < T; ++t)
                for (size_t n = 0; n < static_cast<size_t>(batch_sizes[t]); ++n, ++at) {
                    std::copy_n(in.x.data() + at * D, D, padded.x.data() + (t * N + n) * D);
                    std::copy_n(in.dy.data() + at * width, width, padded.dy.data() + (t * N + n) * width);
                }
            input.batch_sizes = nullptr;
            input.lengths = lengths;
            input.x = padded.x.data();
            Result want = by_layer(layer, input, padded, T * N);
            at = 0;
            for (size_t t = 0; t < T; ++t)
                for (size_t n = 0; n < static_cast<size_t>(batch_sizes[t]); ++n, ++at) {
                    std::copy_n(want.y.data() + (t * N + n) * width, width, want.y.data() + at * width);
                    std::copy_n(want.dx.data() + (t * N + n) * D, D, want.dx.data() + at * D);
                }
            want.y.resize(total * width);
            want.dx.resize(total * D);
            check_same(want, got, function.cell().has_c);
        }
}

TEST_CASE("batch sizes that grow or are zero are refused") {
    RaggedRows rows;
    const int64_t grows[] = {2, 3}, zero[] = {2, 0};
    CHECK_THROWS_AS(rows.set_packed(grows, 2), std::invalid_argument);
    CHECK_THROWS_AS(rows.set_packed(zero, 2), std::invalid_argument);
}

TEST_CASE("gradients that are not wanted are left out, and the others stay the same") {
    Recurrent layer(options("gru", true), 1, active());
    const Inputs in(layer, T * N);
    RecurrentInput input;
    input.steps = T;
    input.rows = N;
    input.x = in.x.data();
    const Result want = by_layer(layer, input, in, T * N);
    const RecurrentFunction function(options("gru", true), active());
    std::vector<float> saved(function.saved_floats(T * N));
    Result got(layer, T * N);
    const RecurrentCall call = call_of(layer, input, in, got, saved);
    function.forward(call, got.end());
    for (size_t left_out = 0; left_out < 4; ++left_out) {
        RecurrentCallGradients g = gradients_of(layer, in, got);
        for (ScanGradients& scan : g.parameters) {
            float** pointers[] = {&scan.weight_ih, &scan.weight_hh, &scan.bias_ih, &scan.bias_hh};
            *pointers[left_out] = nullptr;
        }
        function.backward(call, g);
        for (size_t i = 0; i < want.parameters.size(); ++i) {
            const bool wanted = i % 4 != left_out;
            CHECK((wanted ? got.parameters[i] == want.parameters[i] : got.parameters[i][0] == 1e9f));
        }
    }
}

TEST_CASE("without a backward, weights stay packed until any of them changes") {
    Recurrent layer(options("lstm", false), 1, active());
    const Inputs in(layer, T * N);
    Result got(layer, T * N), want(layer, T * N);
    std::vector<float> none;
    RecurrentInput input;
    input.steps = T;
    input.rows = N;
    input.x = in.x.data();
    const RecurrentFunction function(options("lstm", false), active());
    RecurrentCall call = call_of(layer, input, in, got, none);
    call.saved = nullptr;
    function.forward(call, got.end());
    for (Parameter& p : layer.parameters) {
        float* last = p.value.data() + p.size() - 1;
        *last = -*last - 1.0f;
        function.forward(call, got.end());
        RecurrentTape tape;
        layer.weights_changed();
        layer.forward(input, in.start(), want.y.data(), want.end(), tape, false);
        CHECK(got.y == want.y);
    }
    // Signs of pairs of weights, whose bits a weak checksum would lose.
    Parameter& p = layer.parameters[1];
    for (size_t i = 0; i < p.size(); ++i) p.value.data()[i] = -p.value.data()[i];
    function.forward(call, got.end());
    CHECK(got.y != want.y);
}

TEST_CASE("a call's own number of threads ends with the call") {
    const int before = num_threads();
    {
        const ThreadsForCall own(before + 3);
        CHECK(num_threads() == before + 3);
    }
    CHECK(num_threads() == before);
}

TEST_CASE("a target out of range is refused, and one that is ignored counts for nothing") {
    const auto x = random_vector(3 * 4, 1), w = random_vector(5 * 4, 2);
    const int64_t targets[] = {1, -100, 5};
    LinearCrossEntropy l;
    l.rows = 3;
    l.inputs = 4;
    l.classes = 5;
    l.x = x.data();
    l.weight = w.data();
    l.targets = targets;
    CHECK_THROWS_AS(linear_cross_entropy(active(), l), std::out_of_range);
    l.rows = 2;
    const double mean = linear_cross_entropy(active(), l);
    l.rows = 1;
    CHECK(linear_cross_entropy(active(), l) == mean);
}
