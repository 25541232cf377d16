// Loads models, steps streams, and prints a hash of every result, for a comparison with another platform. A program
// without exceptions and run-time type information, by use of the C API.
//
//     smoke FOLDER [no-errors]       FOLDER: tests/golden
#include <rnnfast/rnnfast.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

[[noreturn]] void fail(const char* sentence) {
    std::printf("failed: %s\n", sentence);
    std::exit(1);
}

void check(rnnfast_status status) {
    if (status != RNNFAST_OK) fail(rnnfast_last_error());
}

// FNV-1a of the numbers' bits.
class Hash {
public:
    void add(const std::vector<float>& numbers) {
        for (const float number : numbers) {
            uint32_t bits;
            std::memcpy(&bits, &number, sizeof bits);
            for (int shift = 0; shift < 32; shift += 8) value_ = (value_ ^ (bits >> shift & 0xffu)) * 0x100000001b3u;
        }
    }
    void print(const char* what, const char* precision) const {
        std::printf("%s %s %016llx\n", what, precision, static_cast<unsigned long long>(value_));
    }

private:
    uint64_t value_ = 0xcbf29ce484222325u;
};

const char* name_of(int weights) {
    return weights == RNNFAST_F32 ? "f32" : weights == RNNFAST_BF16 ? "bf16" : weights == RNNFAST_INT8 ? "int8" : "";
}

// Logits after each of 40 sampled tokens: of a model from a file.
void language_model(const std::string& path, const char* name, int weights) {
    rnnfast_model* model;
    rnnfast_state* state;
    rnnfast_sampler* sampler;
    size_t vocabulary;
    check(rnnfast_model_load(path.c_str(), weights, &model));
    check(rnnfast_model_vocab_size(model, &vocabulary));
    check(rnnfast_state_new(model, &state));
    check(rnnfast_sampler_new(0.8, 0, 1.0, 7, &sampler));
    std::vector<float> logits(vocabulary);
    Hash hash;
    int32_t token = 1;
    for (int t = 0; t < 40; ++t) {
        check(rnnfast_step(model, token, state, logits.data(), logits.size()));
        check(rnnfast_sample(sampler, logits.data(), logits.size(), &token));
        hash.add(logits);
    }
    hash.print(name, name_of(weights));
    rnnfast_sampler_free(sampler);
    rnnfast_state_free(state);
    rnnfast_model_free(model);
}

struct Tensor {
    const char* name;
    size_t rows, columns;  // columns 0: a vector
};

// A header of a safetensors file, and its length in front of it.
std::string with_length(std::string header) {
    header.resize((header.size() + 7) / 8 * 8, ' ');
    std::string length(8, '\0');
    for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(static_cast<uint64_t>(header.size()) >> 8 * i & 0xffu);
    return length + header;
}

// A safetensors file with numbers between -0.25 and 0.25.
std::string file_of(const std::vector<Tensor>& tensors) {
    std::string header = "{", data;
    uint32_t random = 1;
    for (const Tensor& t : tensors) {
        const size_t begin = data.size();
        for (size_t i = 0; i < t.rows * (t.columns ? t.columns : 1); ++i) {
            random = random * 1664525u + 1013904223u;
            const float number = static_cast<float>(static_cast<int32_t>(random) >> 8) / 33554432.0f;
            char bytes[sizeof number];
            std::memcpy(bytes, &number, sizeof number);
            data.append(bytes, sizeof number);
        }
        const std::string columns = t.columns ? "," + std::to_string(t.columns) : "";
        header += std::string(header.size() > 1 ? "," : "") + "\"" + t.name + "\":{\"dtype\":\"F32\",\"shape\":[" +
                  std::to_string(t.rows) + columns + "],\"data_offsets\":[" + std::to_string(begin) + "," +
                  std::to_string(data.size()) + "]}";
    }
    header += "}";
    return with_length(header) + data;
}

// Outputs of a layer of `gates` gates with 67 units over 300 steps, then of 5 streams together.
void layer(const char* cell, size_t gates, int weights, int threads) {
    constexpr size_t inputs = 41, units = 67, steps = 300, streams = 5;
    const std::string file = file_of({{"weight_ih_l0", gates * units, inputs},
                                      {"weight_hh_l0", gates * units, units},
                                      {"bias_ih_l0", gates * units, 0},
                                      {"bias_hh_l0", gates * units, 0}});
    rnnfast_tensors* tensors;
    rnnfast_recurrent* layers;
    check(rnnfast_set_num_threads(threads));
    check(rnnfast_tensors_parse(file.data(), file.size(), &tensors));
    check(rnnfast_recurrent_new(tensors, "", cell, weights, &layers));
    rnnfast_tensors_free(tensors);
    std::vector<rnnfast_state*> states(streams);
    for (rnnfast_state*& state : states) check(rnnfast_recurrent_state_new(layers, &state));
    std::vector<float> x(steps * inputs), y(steps * units), ys(streams * units);
    uint32_t random = 2;
    for (float& number : x) {
        random = random * 1664525u + 1013904223u;
        number = static_cast<float>(static_cast<int32_t>(random) >> 8) / 8388608.0f;
    }
    Hash hash;
    check(rnnfast_recurrent_run(layers, x.data(), x.size(), steps, states[0], y.data(), y.size()));
    hash.add(y);
    for (int t = 0; t < 3; ++t) {
        check(rnnfast_recurrent_step_many(layers, x.data(), streams * inputs, states.data(), streams, ys.data(),
                                          ys.size()));
        hash.add(ys);
    }
    hash.print((std::string(cell) + ", threads: " + std::to_string(threads)).c_str(), name_of(weights));
    for (rnnfast_state* state : states) rnnfast_state_free(state);
    rnnfast_recurrent_free(layers);
}

// Errors travel as exceptions inside the library, and as a status out of it.
void errors() {
    rnnfast_model* model;
    const rnnfast_status status = rnnfast_model_load("no such file", RNNFAST_AS_STORED, &model);
    if (status != RNNFAST_BAD_FILE || !std::strstr(rnnfast_last_error(), "no such file")) fail("a missing file");
    // A tensor without numbers, of which a dimension does not fit into 32 bits.
    const std::string file = with_length(R"({"x":{"dtype":"F32","shape":[0,4294967297],"data_offsets":[0,0]}})");
    rnnfast_tensors* tensors = nullptr;
    const rnnfast_status read = rnnfast_tensors_parse(file.data(), file.size(), &tensors);
    if (sizeof(size_t) < 8 ? read != RNNFAST_BAD_FILE : read != RNNFAST_OK) fail("a dimension beyond 32 bits");
    if (read == RNNFAST_OK) rnnfast_tensors_free(tensors);
    if (rnnfast_set_num_threads(0) != RNNFAST_INVALID_ARGUMENT) fail("0 threads");
    std::printf("errors are reported\n");
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) return 2;
    char isa[64];
    size_t size = sizeof isa;
    check(rnnfast_instruction_set(isa, &size));
    std::printf("table: %s\n", isa);
    const std::string folder = argv[1];
    for (const int weights : {RNNFAST_F32, RNNFAST_BF16, RNNFAST_INT8}) {
        language_model(folder + "/language_model_v1.safetensors", "language model", weights);
        for (const int threads : {1, 2}) {
            layer("lstm", 4, weights, threads);
            layer("gru", 3, weights, threads);
        }
    }
    if (argc < 3) errors();
    std::printf("done\n");
    return 0;
}
