// Networks of layers described by data: gradients, steps, files, hostile descriptions; the language model on one.
#include "models/network.h"

#include <algorithm>
#include <stdexcept>

#include "allocations.h"
#include "core/parallel.h"
#include "model_files.h"
#include "models/language_model.h"
#include "models/network_file.h"
#include "network_chains.h"
#include "ops/embedding.h"
#include "rnnfast/error.hpp"

using namespace rnnfast;
using namespace rnnfast::core;
using namespace rnnfast::tests;

namespace {

constexpr size_t steps = 5, rows = 3, inputs = 3, ids = 7;
const std::vector<int64_t> uneven = {5, 3, 4};

// A network that reads x [T, N, 3] and tokens below 7.
std::string description(const std::string& layers, const std::string& rest = "") {
    return R"({"inputs":[{"name":"x","size":3},{"name":"tokens","ids":7}],"layers":[)" + layers + "]" + rest + "}";
}

std::unique_ptr<Network> made(const std::string& json, const Kernels& kernels = active()) {
    return std::make_unique<Network>(read_network(parse_json(json)), 3, kernels);
}

struct Data {
    std::vector<float> x = random_vector(steps * rows * inputs, 1);
    std::vector<int32_t> tokens;
    std::vector<Signal> signals;

    explicit Data(const std::vector<int64_t>* lengths = nullptr) {
        for (size_t i = 0; i < steps * rows; ++i) tokens.push_back(static_cast<int32_t>(random_bits(2, i) % ids));
        signals.resize(2);
        for (Signal& s : signals) {
            s.steps = steps;
            s.rows = rows;
            s.lengths = lengths ? lengths->data() : nullptr;
        }
        signals[0].x = x.data();
        signals[1].ids = tokens.data();
    }
};

std::vector<float> values_of(const Signal& s) { return {s.x, s.x + s.size()}; }

// The outputs one after another, and what they are multiplied by to become a loss.
std::vector<float> outputs_of(const Network& network, const Data& data, NetworkTape& tape, bool train) {
    network.forward({data.signals.data()}, tape, train, 9);
    std::vector<float> all;
    for (size_t i = 0; i < network.outputs(); ++i)
        for (const float y : values_of(network.output(tape, i))) all.push_back(y);
    return all;
}
double loss_of(const std::vector<float>& y) {
    const std::vector<float> weights = random_vector(y.size(), 4);
    double sum = 0;
    for (size_t i = 0; i < y.size(); ++i) sum += static_cast<double>(y[i]) * static_cast<double>(weights[i]);
    return sum;
}

// Gradients of the loss: added to the parameters; returns that of x.
std::vector<float> backward(Network& network, const Data& data, NetworkTape& tape) {
    const std::vector<float> y = outputs_of(network, data, tape, true);
    std::vector<float> dy = random_vector(y.size(), 4), dx(data.x.size());
    std::vector<float*> dys, dxs = {dx.data(), nullptr};
    size_t at = 0;
    for (size_t i = 0; i < network.outputs(); at += network.output(tape, i++).size()) dys.push_back(dy.data() + at);
    network.backward(tape, {dys.data(), dxs.data()});
    return dx;
}

// Everything together: in-place layers next to layers that read what they would overwrite, and two outputs.
const std::string graph = description(
    R"({"name":"e","type":"embedding","embedding_dim":3,"inputs":["tokens"]},
       {"name":"ed","type":"dropout","p":0.2,"variational":true},
       {"name":"c","type":"conv1d","out_channels":3,"kernel_size":3,"before":2,"inputs":["x"]},
       {"name":"sum","type":"add","inputs":["ed","c","x"]},
       {"name":"t","type":"activation","function":"tanh"},
       {"name":"r","type":"recurrent","cell":"lstm","hidden_size":4},
       {"name":"rd","type":"dropout","p":0.2},
       {"name":"g","type":"activation","function":"gelu","inputs":["r"]},
       {"name":"both","type":"concatenate","inputs":["rd","g","t"]},
       {"name":"n","type":"layer_norm"},
       {"name":"tags","type":"linear","out_features":2},
       {"name":"p","type":"pool","function":"mean","inputs":["n"]},
       {"name":"class","type":"linear","out_features":3})",
    R"(,"outputs":["tags","class"])");

void check_gradients(const std::string& json, const std::vector<int64_t>* lengths) {
    CAPTURE(json);
    const auto network = made(json);
    Data data(lengths);
    NetworkTape tape;
    const std::vector<float> dx = backward(*network, data, tape);
    const auto slope = [&](float& value, bool parameter) {
        constexpr float step = 1.0f / 256;
        const float before = value;
        double loss[2];
        for (const int side : {0, 1}) {
            value = before + (side ? step : -step);
            if (parameter) network->weights_changed();
            loss[side] = loss_of(outputs_of(*network, data, tape, true));
        }
        value = before;
        if (parameter) network->weights_changed();
        return (loss[1] - loss[0]) / (2 * static_cast<double>(step));
    };
    const auto check = [&](float* values, const float* gradient, size_t size, bool parameter) {
        std::vector<float> some;
        std::vector<double> wanted;
        for (size_t i = 0; i < size; i += 1 + size / 40) {
            some.push_back(gradient[i]);
            wanted.push_back(slope(values[i], parameter));
        }
        double largest = 0, worst = 0;
        for (size_t i = 0; i < some.size(); ++i) {
            largest = std::max(largest, std::abs(wanted[i]));
            worst = std::max(worst, std::abs(static_cast<double>(some[i]) - wanted[i]));
        }
        // the curvature over a step, and the difference of two float32 losses: 2^-24 / 2^-8, times a few
        CHECK(worst <= 2e-3 * largest + 1e-4);
    };
    check(data.x.data(), dx.data(), dx.size(), false);
    for (Parameter* p : network->parameters()) {
        CAPTURE(p->name);
        check(p->value.data(), p->grad.data(), p->size(), true);
    }
}

}  // namespace

TEST_CASE("every layer's gradients in a network are those of finite differences") {
    for (const std::vector<int64_t>* lengths : {static_cast<const std::vector<int64_t>*>(nullptr), &uneven}) {
        for (const char* chain : chains) check_gradients(description(chain), lengths);
        check_gradients(graph, lengths);
    }
}

TEST_CASE("backward gives the gradients of inner layers, which are those of inputs added there") {
    const auto network = made(R"({"inputs":[{"name":"x","size":3},{"name":"p","size":4}],"layers":[
        {"name":"r","type":"recurrent","cell":"gru","hidden_size":4,"inputs":["x"]},
        {"name":"s","type":"add","inputs":["r","p"]},
        {"name":"l","type":"linear","out_features":2}],"outputs":["l"]})");
    Data data(&uneven);
    const std::vector<float> zeros(steps * rows * 4);
    data.signals[1] = data.signals[0];
    data.signals[1].x = zeros.data();
    NetworkTape tape;
    std::vector<float> dy = random_vector(outputs_of(*network, data, tape, true).size(), 4), dp = zeros, dr = zeros;
    float *dys[] = {dy.data()}, *dxs[] = {nullptr, dp.data()}, *dlayer[] = {dr.data(), nullptr, nullptr};
    network->backward(tape, {dys, dxs, nullptr, nullptr, dlayer});
    CHECK(dr == dp);
    CHECK(dp != zeros);
    CHECK(contains(sentence_of([&] { network->layer_named("x"); }), "no layer \"x\""));
}

TEST_CASE("a network reads nothing beyond a row's length and writes zeros there") {
    const auto network = made(graph);
    Data data(&uneven), changed(&uneven);
    for (size_t n = 0; n < rows; ++n)
        for (size_t t = static_cast<size_t>(uneven[n]); t < steps; ++t) {
            std::fill_n(changed.x.data() + (t * rows + n) * inputs, inputs, NAN);
            changed.tokens[t * rows + n] = -1;
        }
    NetworkTape tape;
    const std::vector<float> y = outputs_of(*network, data, tape, false);
    CHECK(outputs_of(*network, changed, tape, false) == y);
    for (size_t i = 0; i < 2; ++i) CHECK(y[(4 * rows + 1) * 2 + i] == 0.0f);  // step 4 of row 1, which has 3
    const std::vector<float> dx = backward(*network, changed, tape);
    for (size_t i = 0; i < inputs; ++i) CHECK(dx[(4 * rows + 1) * inputs + i] == 0.0f);
}

namespace {

uint64_t hash_of_training(const std::string& json, const Kernels& kernels) {
    const auto network = made(json, kernels);
    const Data data(&uneven);
    NetworkTape tape;
    const std::vector<float> dx = backward(*network, data, tape);
    uint64_t hash = hash_bits(dx.data(), dx.size());
    for (const Parameter* p : network->parameters()) hash = hash_bits(p->grad.data(), p->size(), hash);
    return hash;
}

}  // namespace

TEST_CASE("a network gives the same bits on any number of threads and on every ISA with FMA") {
    std::vector<std::string> all = {graph};
    for (const char* chain : chains) all.push_back(description(chain));
    const int before = num_threads();
    for (const std::string& json : all) {
        CAPTURE(json);
        set_num_threads(1);
        const uint64_t one = hash_of_training(json, active());
        for (const int threads : {2, 3}) {
            set_num_threads(threads);
            CHECK(hash_of_training(json, active()) == one);
        }
        for (const Isa& isa : isas())
            if (isa.supported && std::string(isa.kernels->name) != "baseline" &&
                std::string(active().name) != "baseline")
                CHECK(hash_of_training(json, *isa.kernels) == one);
    }
    set_num_threads(before);
}

namespace {

const std::string streamed = description(
    R"({"name":"e","type":"embedding","embedding_dim":5,"inputs":["tokens"]},
       {"name":"d","type":"dropout"},
       {"name":"c","type":"conv1d","out_channels":5,"kernel_size":3,"dilation":2,"before":4,"inputs":["x"]},
       {"name":"a","type":"activation","function":"silu"},
       {"name":"b","type":"batch_norm"},
       {"name":"td","type":"time_distributed","steps":5,"layers":[
           {"type":"conv1d","out_channels":4,"kernel_size":3,"before":1,"after":1},{"type":"magnitude"},
           {"type":"linear","out_features":3},{"type":"reflection_pad","after":1},
           {"type":"pool_windows","function":"mean","kernel_size":2,"stride":1},{"type":"flatten","steps":5},
           {"type":"pool","function":"last"}]},
       {"name":"g2","type":"conv1d","out_channels":5,"kernel_size":2,"before":1,"groups":5},
       {"name":"wm","type":"pool_windows","function":"max","kernel_size":3,"before":2},
       {"name":"wa","type":"pool_windows","function":"mean","kernel_size":2,"before":1,"padding_counts":false},
       {"name":"f","type":"flatten","steps":1},
       {"name":"sp","type":"activation","function":"softplus"},
       {"name":"m","type":"multiply","inputs":["d","sp"]},
       {"name":"r","type":"recurrent","cell":"lstm","hidden_size":17,"num_layers":2},
       {"name":"n","type":"layer_norm"},
       {"name":"h","type":"scale","factor":3},
       {"name":"l","type":"linear","out_features":17},
       {"name":"s","type":"add","inputs":["l","r"]},
       {"name":"g","type":"recurrent","cell":"gru","hidden_size":6},
       {"name":"tags","type":"linear","out_features":4},
       {"name":"mean","type":"pool","function":"mean","inputs":["g"]},
       {"name":"max","type":"pool","function":"max","inputs":["g"]},
       {"name":"first","type":"pool","function":"first","inputs":["g"]},
       {"name":"last","type":"pool","function":"last","inputs":["g"]},
       {"name":"attended","type":"attention_pool","inputs":["g"]},
       {"name":"pooled","type":"concatenate","inputs":["mean","max","first","last","attended"]},
       {"name":"class","type":"linear","out_features":3})",
    R"(,"outputs":["tags","class"])");

std::vector<StreamState*> pointers(std::vector<StreamState>& states) {
    std::vector<StreamState*> all;
    for (StreamState& state : states) all.push_back(&state);
    return all;
}

}  // namespace

TEST_CASE("steps of a network give the bits of the whole sequence, in every precision, together or in states apart") {
    for (const char* weights : {"f32", "bf16", "int8"}) {
        CAPTURE(std::string(weights));
        std::string json = streamed;
        json.insert(json.size() - 1, R"(,"weights":")" + std::string(weights) + "\"");
        const auto network = made(json);
        CHECK(network->no_stream() == "");
        const Data data;
        NetworkTape tape;
        network->forward({data.signals.data()}, tape, false, 0);
        const std::vector<float> tags = values_of(network->output(tape, 0));
        const std::vector<float> classes = values_of(network->output(tape, 1));

        std::vector<StreamState> together = network->initial_states(rows);
        const std::vector<StreamState*> at = pointers(together);
        std::vector<std::vector<StreamState>> apart;
        for (size_t n = 0; n < rows; ++n) apart.push_back(network->initial_states(1));
        std::vector<StreamState*> gathered;
        for (size_t layer = 0; layer < at.size(); ++layer)
            for (size_t n = 0; n < rows; ++n) gathered.push_back(&apart[n][layer]);
        NetworkWorkspace workspace, other;
        for (size_t t = 0; t < steps; ++t) {
            std::vector<Signal> now = data.signals;
            for (Signal& s : now) s.steps = 1;
            now[0].x += t * rows * inputs;
            now[1].ids += t * rows;
            network->run(now.data(), at.data(), workspace, 1);
            network->run(now.data(), gathered.data(), other, 1);
            const std::vector<float> step = values_of(network->output(workspace, 0));
            CHECK(std::equal(step.begin(), step.end(), tags.begin() + static_cast<ptrdiff_t>(t * rows * 4)));
            CHECK(values_of(network->output(other, 0)) == step);
        }
        CHECK(values_of(network->output(workspace, 1)) == classes);
        CHECK(values_of(network->output(other, 1)) == classes);

        std::vector<StreamState> fresh = network->initial_states(rows);
        network->run(data.signals.data(), pointers(fresh).data(), other, 1);
        CHECK(values_of(network->output(other, 0)) == tags);
    }
}

TEST_CASE("batch normalization in training needs two steps, and moves its running statistics in backward alone") {
    const auto network = made(description(R"({"name":"n","type":"batch_norm","momentum":0.5})"));
    const std::vector<int64_t> one = {1, 0, 0};
    const Data data, single(&one);
    NetworkTape tape;
    CHECK(contains(sentence_of([&] { outputs_of(*network, single, tape, true); }), "needs two or more to train"));
    const Parameter& mean = *network->parameters()[2];
    CHECK(mean.frozen);
    outputs_of(*network, data, tape, true);
    CHECK(mean.value.data()[0] == 0.0f);
    const std::vector<float> before = outputs_of(*network, data, tape, false);
    backward(*network, data, tape);
    double sum = 0;
    for (size_t i = 0; i < steps * rows; ++i) sum += static_cast<double>(data.x[i * inputs]);
    CHECK(std::abs(static_cast<double>(mean.value.data()[0]) - 0.5 * sum / (steps * rows)) < 1e-6);
    CHECK(outputs_of(*network, data, tape, false) != before);
}

TEST_CASE("a network says in one sentence why it cannot run one step at a time") {
    const auto reason = [](const std::string& layers) { return made(description(layers))->no_stream(); };
    CHECK(contains(reason(R"({"name":"r","type":"recurrent","cell":"gru","hidden_size":2,"bidirectional":true})"),
                   "layer \"r\" (recurrent) cannot run one step at a time: its second half"));
    CHECK(contains(reason(R"({"name":"c","type":"conv1d","out_channels":2,"kernel_size":3,"before":1,"after":1})"),
                   "not causal"));
    CHECK(contains(reason(R"({"name":"c","type":"conv1d","out_channels":2,"kernel_size":2,"before":1,"stride":3})"),
                   "it gives one step for every 3 that it reads"));
    CHECK(contains(reason(R"({"name":"p","type":"pool_windows","function":"mean","kernel_size":2,"stride":2})"),
                   "it gives one step for every 2"));
    CHECK(contains(reason(R"({"name":"p","type":"pool_windows","function":"mean","kernel_size":3,"before":1})"),
                   "padded with 2 steps before the sequence"));
    CHECK(contains(reason(R"({"name":"f","type":"flatten","steps":4})"), "it gives one step for every 4"));
    CHECK(contains(reason(R"({"name":"p","type":"reflection_pad","after":2})"), "at the ends of a sequence"));
    CHECK(contains(reason(R"({"name":"a","type":"self_attention"})"), "looks at the whole sequence"));
    CHECK(contains(reason(R"({"name":"a","type":"self_attention","causal":true})"), "grow"));
    CHECK(contains(reason(R"({"name":"p","type":"pool","function":"max"},
                             {"name":"r","type":"recurrent","cell":"rnn","hidden_size":2})"),
                   "what a pool makes of a whole sequence"));
}

TEST_CASE("descriptions that make no network are refused, each by a sentence") {
    const auto refusal = [](const std::string& json) { return sentence_of([&] { made(json); }); };
    const auto layer = [&](const std::string& layers) { return refusal(description(layers)); };
    CHECK(contains(refusal("[]"), "must be a JSON object"));
    CHECK(contains(refusal(R"({"layers":[{"name":"l","type":"linear","out_features":1}]})"), "inputs must be a list"));
    CHECK(contains(refusal(R"({"inputs":[{"name":"x","size":1}],"layers":[]})"), "layers must be a list"));
    CHECK(contains(refusal(R"({"inputs":[{"name":"x","size":1}],"layers":[3]})"), "layers must be a list of objects"));
    CHECK(contains(refusal(R"({"inputs":[{"name":"x"}],"layers":[{"name":"n","type":"layer_norm"}]})"),
                   "either size, the numbers of a step, or ids"));
    CHECK(
        contains(layer(R"({"name":"l","type":"linear","out_features":0})"), "out_features must be an integer from 1"));
    CHECK(contains(layer(R"({"name":"l","type":"linear"})"), "out_features must be"));
    CHECK(contains(layer(R"({"name":"l","type":"linear","out_features":1,"size":2})"), "\"size\" is not known"));
    CHECK(contains(layer(R"({"name":"l","type":"lineal"})"), "expected one of embedding, recurrent"));
    CHECK(contains(layer(R"({"name":"","type":"linear","out_features":1})"), "a name is empty"));
    CHECK(contains(layer(R"({"type":"linear","out_features":1})"), "name must be a name"));
    CHECK(contains(layer(R"({"name":"x","type":"linear","out_features":1})"), "\"x\" occurs twice"));
    CHECK(contains(layer(R"({"name":"l","type":"linear","out_features":1,"inputs":["y"]})"), "called \"y\""));
    CHECK(contains(layer(R"({"name":"l","type":"linear","out_features":1,"inputs":["l"]})"), "called \"l\""));
    CHECK(contains(layer(R"({"name":"l","type":"linear","out_features":1,"inputs":[]})"), "at least one name"));
    CHECK(contains(layer(R"({"name":"l","type":"linear","out_features":1,"inputs":["tokens"]})"), "reads ids"));
    CHECK(contains(layer(R"({"name":"l","type":"linear","out_features":1,"inputs":["x","x"]})"), "has 2 inputs"));
    CHECK(contains(layer(R"({"name":"e","type":"embedding","embedding_dim":1})"), "reads numbers"));
    CHECK(contains(layer(R"({"name":"a","type":"add"})"), "at least two"));
    CHECK(
        contains(layer(R"({"name":"l","type":"linear","out_features":2},{"name":"a","type":"add","inputs":["x","l"]})"),
                 "reads 3 and 2 numbers"));
    CHECK(contains(layer(R"({"name":"r","type":"recurrent","cell":"gur","hidden_size":1})"), "unknown cell 'gur'"));
    CHECK(contains(layer(R"({"name":"a","type":"activation","function":"cosh"})"), "function is 'cosh'"));
    const auto activation = [&](const std::string& options) {
        return layer(R"({"name":"a","type":"activation","function":)" + options + "}");
    };
    CHECK(contains(activation(R"("tanh","alpha":1)"), "tanh has no alpha: leave it out"));
    CHECK(contains(activation(R"("elu","alpha":-1)"), "alpha is -1.000000, expected at least 0"));
    CHECK(contains(activation(R"("softplus","beta":0)"), "beta is 0.000000, expected at least 1e-6"));
    CHECK(contains(activation(R"("clip","alpha":1,"beta":"2")"), "beta must be a number from"));
    CHECK(contains(activation(R"("clip","alpha":1)"), "expected a smaller alpha"));
    for (const char* options : {"", R"(,"factor":1e39)", R"(,"factor":"2")", R"(,"factor":true)"})
        CHECK(contains(layer(R"({"name":"s","type":"scale")" + std::string(options) + "}"),
                       "factor must be a number from"));
    CHECK(contains(layer(R"({"name":"c","type":"conv1d","out_channels":1,"kernel_size":2,"before":9})"),
                   "reaches over 1"));
    CHECK(contains(layer(R"({"name":"c","type":"conv1d","out_channels":4,"kernel_size":2,"groups":2})"),
                   "groups is 2, in_channels 3 and out_channels 4: expected a divisor of both"));
    CHECK(contains(layer(R"({"name":"p","type":"pool_windows","function":"max","kernel_size":2,"before":2})"),
                   "expected less than kernel_size, 2"));
    CHECK(contains(layer(R"({"name":"p","type":"pool_windows","function":"last","kernel_size":2})"),
                   "expected max or mean"));
    CHECK(contains(layer(R"({"name":"m","type":"magnitude"})"), "reads 3 numbers a step, expected an even count"));
    const auto inside = [&](const std::string& layers, const std::string& size = "3") {
        return layer(R"({"name":"t","type":"time_distributed","steps":)" + size + ",\"layers\":" + layers + "}");
    };
    CHECK(contains(inside("[{\"type\":\"layer_norm\"}]", "2"), "reads 3 numbers a step, expected a multiple of 2"));
    CHECK(contains(inside("[{\"type\":\"layer_norm\"}]", "0"), "steps must be an integer from 1"));
    CHECK(contains(inside("[]"), "layers must be a list of at least one object"));
    CHECK(contains(inside("[3]"), "its layer 0: must be an object"));
    CHECK(contains(inside("[{\"type\":3}]"), "its layer 0: there is no such type"));
    CHECK(contains(inside("[{\"type\":\"layer_norm\"},{\"type\":\"dropout\"}]"), "its layer 1: cannot run inside"));
    CHECK(contains(inside(R"([{"type":"recurrent","cell":"gru","hidden_size":2}])"), "cannot run inside a step"));
    CHECK(contains(inside(R"([{"type":"add"}])"), "its layer 0: has one input, expected at least two"));
    CHECK(contains(inside(R"([{"type":"reflection_pad","before":3}])"), "needs more than the 3 steps it reads"));
    CHECK(contains(
        inside(R"([{"type":"flatten","steps":3},{"type":"linear","out_features":2},{"type":"flatten","steps":9}])"),
        "its layer 2: needs more than the 1 steps it reads"));
    std::string doubling = R"({"name":"a0","type":"concatenate","inputs":["x","x"]})";
    for (size_t i = 1; i < 60; ++i) {
        const std::string below = "\"a" + std::to_string(i - 1) + "\"";
        doubling +=
            R"(,{"name":"a)" + std::to_string(i) + R"(","type":"concatenate","inputs":[)" + below + "," + below + "]}";
    }
    CHECK(contains(layer(doubling), "expected at most 2147483647"));
    CHECK(contains(refusal(description(R"({"name":"n","type":"layer_norm"})", R"(,"outputs":["x"])")), "is an input"));
    CHECK(contains(refusal(description(R"({"name":"n","type":"layer_norm"})", R"(,"output":["n"])")), "\"output\""));

    const auto network = made(description(R"({"name":"c","type":"conv1d","out_channels":1,"kernel_size":6})"));
    NetworkTape tape;
    const Data data;
    CHECK(contains(sentence_of([&] { outputs_of(*network, data, tape, false); }), "needs more than the 5 steps"));
    CHECK(contains(sentence_of([&] { network->check_tape(tape); }), "run forward again"));
}

TEST_CASE("a network's description comes back with its defaults, and makes the same network") {
    const auto network = made(graph);
    const auto again = made(network->config());
    CHECK(again->config() == network->config());
    const Data data;
    NetworkTape tape, other;
    CHECK(outputs_of(*again, data, other, false) == outputs_of(*network, data, tape, false));
}

namespace {

std::string write_network(const std::string& path, const Network& network) {
    std::map<std::string, TensorView> tensors;
    for (const Parameter* p : network.parameters()) tensors[p->name] = {p->shape, p->value.data(), p->size()};
    write_safetensors(
        path, tensors,
        {{"format", "rnnfast"}, {"format_version", "1"}, {"kind", "network"}, {"config", network.config()}});
    return read_bytes(path);
}

}  // namespace

TEST_CASE("a network from a file gives the bits of the network that was saved, and its steps allocate nothing") {
    const TemporaryFile path("network");
    const Data data;
    NetworkTape tape;
    for (const char* weights : {"f32", "bf16", "int8"}) {
        std::string json = streamed;
        json.insert(json.size() - 1, R"(,"weights":")" + std::string(weights) + "\"");
        const auto saved = made(json);
        write_network(path, *saved);
        const auto loaded = network_of(NetworkFile(SafetensorsFile::open(path)), saved->weights(), active());
        CHECK(outputs_of(*loaded, data, tape, false) == outputs_of(*saved, data, tape, false));
        CHECK_THROWS_AS(outputs_of(*loaded, data, tape, true), std::logic_error);

        std::vector<StreamState> states = loaded->initial_states(rows);
        const std::vector<StreamState*> at = pointers(states);
        NetworkWorkspace workspace;
        workspace.reserve(loaded->stream_sizes(rows));
        std::vector<Signal> now = data.signals;
        for (Signal& s : now) s.steps = 1;
        const long before = allocations;
        for (size_t i = 0; i < 3; ++i) loaded->run(now.data(), at.data(), workspace, 1);
        CHECK(allocations == before);
    }
}

TEST_CASE("a damaged network file is refused before memory is taken for what it claims") {
    const TemporaryFile path("damaged-network");
    const auto refusal = [&](const std::string& from, const std::string& to) {
        const auto network = made(graph);
        std::string changed = network->config();
        const size_t at = changed.find(from);
        REQUIRE(at != std::string::npos);
        changed.replace(at, from.size(), to);
        std::map<std::string, TensorView> tensors;
        for (const Parameter* p : network->parameters()) tensors[p->name] = {p->shape, p->value.data(), p->size()};
        write_safetensors(path, tensors,
                          {{"format", "rnnfast"}, {"format_version", "1"}, {"kind", "network"}, {"config", changed}});
        try {
            NetworkFile(SafetensorsFile::open(path)).check(Weights::f32);
        } catch (const rnnfast::Error& error) {
            return std::string(error.what());
        }
        return std::string();
    };
    CHECK(refusal("\"p\":0.2", "\"p\":0.25") == "");
    CHECK(contains(refusal("\"embedding_dim\":3", "\"embedding_dim\":4"), "cannot be used"));  // the sum's widths
    CHECK(contains(refusal("\"hidden_size\":4", "\"hidden_size\":5"), "has shape"));
    CHECK(contains(refusal("\"num_layers\":1", "\"num_layers\":2000000000"), "their weights are missing"));
    CHECK(contains(refusal("\"num_layers\":1", "\"num_layers\":2"), "missing"));
    // Each of these alone has no more layers than the file has tensors.
    std::string many;
    for (const char* name : {"m1", "m2", "m3", "m4"})
        many += R"({"name":")" + std::string(name) +
                R"(","type":"recurrent","cell":"rnn","hidden_size":3,"num_layers":6},)";
    CHECK(contains(refusal("{\"name\":\"sum\"", many + "{\"name\":\"sum\""), "layer \"m3\" (recurrent): asks for 6"));
    CHECK(contains(refusal("\"dilation\":1", "\"dilation\":2000000000"), "more than the weights justify"));
    CHECK(contains(refusal("\"ids\":7", "\"ids\":8"), "has shape"));
    CHECK(contains(refusal("\"name\":\"tags\"", "\"name\":\"tag\""), "nothing before this is called \"tags\""));
}

TEST_CASE("a language model is the chain of its layers, to the bit") {
    LanguageModelOptions o;
    o.cell = "lstm";
    o.vocabulary = ids;
    o.embedding_size = 5;
    o.hidden_size = 6;
    o.num_layers = 2;
    o.dropout = 0.25;
    LanguageModel model(o, 11, active());
    const Data data;
    const uint64_t key = 3;
    std::vector<int32_t> targets(data.tokens.rbegin(), data.tokens.rend());
    std::vector<double> nll(steps * rows), wanted(nll.size());
    model.loss(data.tokens.data(), targets.data(), steps, rows, {}, {}, nll.data(), true, key);
    model.backward();

    Parameters all = model.parameters();
    RecurrentOptions r;
    r.cell = o.cell;
    r.input_size = o.embedding_size;
    r.hidden_size = o.hidden_size;
    r.num_layers = o.num_layers;
    r.dropout = static_cast<float>(o.dropout);
    Recurrent rnn(r, part_seed(11, 1), active());
    for (size_t i = 0; i < rnn.parameters.size(); ++i)  // the seeds of the parts
        CHECK(std::equal(rnn.parameters[i].value.data(), rnn.parameters[i].value.data() + rnn.parameters[i].size(),
                         all[1 + i]->value.data()));
    Parameter weight = make_parameter("weight", {ids, o.hidden_size}), bias = make_parameter("bias", {ids});
    std::copy_n(all[all.size() - 2]->value.data(), weight.size(), weight.value.data());
    std::copy_n(all.back()->value.data(), bias.size(), bias.value.data());
    OutputLayer output(active(), Weights::f32, &weight, &bias);

    const size_t tokens = steps * rows, E = o.embedding_size, H = o.hidden_size;
    std::vector<float> embedded(tokens * E), hidden(tokens * H), dropped(tokens * H), dhidden(tokens * H),
        dembedded(tokens * E), dtable(ids * E);
    embedding_forward(all[0]->value.data(), E, data.tokens.data(), tokens, embedded.data());
    dropout(embedded.data(), embedded.data(), embedded.size(), 0.25f, random_key(key, 1));
    RecurrentInput input;
    input.steps = steps;
    input.rows = rows;
    input.x = embedded.data();
    RecurrentTape tape;
    rnn.forward(input, {}, hidden.data(), {}, tape, true, random_key(key, 0));
    dropout(hidden.data(), dropped.data(), hidden.size(), 0.25f, random_key(key, 2));
    OutputLayer::LossMemory memory;
    output.loss(dropped.data(), tokens, targets.data(), wanted.data(), dhidden.data(), memory);
    CHECK(nll == wanted);
    output.add_gradients(memory);
    dropout(dhidden.data(), dhidden.data(), dhidden.size(), 0.25f, random_key(key, 2));
    rnn.backward(tape, dhidden.data(), {}, dembedded.data(), {});
    dropout(dembedded.data(), dembedded.data(), dembedded.size(), 0.25f, random_key(key, 1));
    embedding_backward(dembedded.data(), E, data.tokens.data(), tokens, dtable.data());
    CHECK(std::equal(dtable.begin(), dtable.end(), all[0]->grad.data()));
    for (size_t i = 0; i < rnn.parameters.size(); ++i)
        CHECK(std::equal(rnn.parameters[i].grad.data(), rnn.parameters[i].grad.data() + rnn.parameters[i].size(),
                         all[1 + i]->grad.data()));
    CHECK(std::equal(weight.grad.data(), weight.grad.data() + weight.size(), all[all.size() - 2]->grad.data()));
}
