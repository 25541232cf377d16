// Small model files for tests, as bytes and on disk.
#pragma once

#include <unistd.h>

#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

#include "files/safetensors.h"
#include "helpers.h"

namespace rnnfast::tests {

struct ModelSizes {
    std::string cell = "lstm";
    size_t gates = 4, vocabulary = 6, embedding = 3, hidden = 5, layers = 2;
};

inline std::string config_of(const ModelSizes& m) {
    return "{\"cell\":\"" + m.cell + "\",\"vocab_size\":" + std::to_string(m.vocabulary) +
           ",\"embedding_size\":" + std::to_string(m.embedding) + ",\"hidden_size\":" + std::to_string(m.hidden) +
           ",\"num_layers\":" + std::to_string(m.layers) + ",\"dropout\":0.0,\"seed\":1}";
}

inline std::map<std::string, std::string> metadata_of(const ModelSizes& m) {
    std::string tokens = "\"<unk>\"";
    for (size_t i = 1; i < m.vocabulary; ++i) tokens += ",\"" + std::string(1, static_cast<char>('a' + i - 1)) + "\"";
    return {{"format", "rnnfast"},
            {"format_version", "1"},
            {"kind", "language_model"},
            {"config", config_of(m)},
            {"vocabulary", "{\"tokenizer\":\"char\",\"tokens\":[" + tokens + "]}"}};
}

// A path for a model file, which is deleted at the end, also of a test that throws.
class TemporaryFile {
public:
    explicit TemporaryFile(const std::string& name)
        : path_("/tmp/rnnfast-test-" + std::to_string(getpid()) + "-" + name + ".safetensors") {}
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    ~TemporaryFile() { unlink(path_.c_str()); }
    operator const std::string&() const { return path_; }
    const char* c_str() const { return path_.c_str(); }

private:
    const std::string path_;
};

inline std::string read_bytes(const std::string& path) {
    std::ifstream stream(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

// Writes a model with random weights and returns its bytes.
inline std::string write_model(const std::string& path, const ModelSizes& m,
                               const std::map<std::string, std::string>& metadata) {
    std::map<std::string, std::vector<float>> values;
    std::map<std::string, TensorView> tensors;
    const auto add = [&](const std::string& name, std::vector<size_t> shape) {
        size_t size = 1;
        for (const size_t n : shape) size *= n;
        values[name] = random_vector(size, values.size() + 1, 0.7);
        tensors[name] = {std::move(shape), values[name].data(), size};
    };
    if (m.embedding) add("embedding.weight", {m.vocabulary, m.embedding});
    for (size_t layer = 0; layer < m.layers; ++layer) {
        const std::string end = "_l" + std::to_string(layer);
        const size_t rows = m.gates * m.hidden;
        add("rnn.weight_ih" + end, {rows, layer ? m.hidden : m.embedding ? m.embedding : m.vocabulary});
        add("rnn.weight_hh" + end, {rows, m.hidden});
        add("rnn.bias_ih" + end, {rows});
        add("rnn.bias_hh" + end, {rows});
    }
    add("output.weight", {m.vocabulary, m.hidden});
    add("output.bias", {m.vocabulary});
    write_safetensors(path, tensors, metadata);
    return read_bytes(path);
}

inline std::string model_bytes(const ModelSizes& m) { return write_model(TemporaryFile("bytes"), m, metadata_of(m)); }

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// The sentence of the exception that body throws; empty if it throws none.
template <class Exception = std::invalid_argument, class Body>
std::string sentence_of(Body body) {
    try {
        body();
    } catch (const Exception& error) {
        return error.what();
    }
    return "";
}

}  // namespace rnnfast::tests
