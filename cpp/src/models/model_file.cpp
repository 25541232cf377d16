#include "models/model_file.h"

#include <algorithm>

#include "core/cell.h"
#include "core/packing.h"
#include "rnnfast/error.hpp"

namespace rnnfast {

namespace {

constexpr size_t most = 0x7fffffff;               // of any size: products of two fit 64 bits
constexpr uint64_t packing_allowance = 16 << 20;  // bytes that packing may take beyond four times the file

std::string text_of(const std::vector<size_t>& shape) {
    std::string text = "[";
    for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + "]";
}

// What to do with a file of another kind.
std::string advice(const std::string& kind) {
    if (kind == "language_model") return "; load it as a LanguageModel";
    if (kind == "seq2seq") return "; load it as a Translator";
    return "; update rnnfast";
}

}  // namespace

const std::string& metadata_of(const SafetensorsFile& file, const char* key, const char* otherwise) {
    const auto found = file.metadata().find(key);
    if (found == file.metadata().end()) throw Error(file.name() + ": " + otherwise);
    return found->second;
}

void check_format(const SafetensorsFile& file, const std::string& kind) {
    const char* other = "a safetensors file, but not a model of rnnfast; its layers may be loaded by their tensors";
    if (metadata_of(file, "format", other) != "rnnfast") throw Error(file.name() + ": " + other);
    const std::string& version = metadata_of(file, "format_version", "has no format_version");
    if (version != "1" && version != "2")
        throw Error(file.name() + ": format version " + json_quoted(version) +
                    ", this rnnfast reads versions 1 and 2; update rnnfast");
    const std::string& held = metadata_of(file, "kind", "does not say what kind of model it holds");
    if (held != kind)
        throw Error(file.name() + ": holds a " + json_quoted(held) + ", expected a " + kind + advice(held));
}

size_t config_whole(const Json& config, const char* key, size_t least) {
    const Json* value = config.find(key);
    if (!value || value->kind != Json::Kind::integer || value->integer < least || value->integer > most)
        throw Error(std::string(key) + " must be a whole number from " + std::to_string(least) + " to " +
                    std::to_string(most));
    return static_cast<size_t>(value->integer);
}

std::string config_text(const Json& config, const char* key) {
    const Json* value = config.find(key);
    if (!value || value->kind != Json::Kind::string) throw Error(std::string(key) + " must be a name");
    return value->string;
}

bool config_flag(const Json& config, const char* key) {
    const Json* value = config.find(key);
    if (!value || value->kind != Json::Kind::boolean) throw Error(std::string(key) + " must be true or false");
    return value->boolean;
}

void check_known(const Json& config, const std::vector<std::string_view>& known) {
    for (const auto& [key, value] : config.members)
        if (std::find(known.begin(), known.end(), key) == known.end())
            throw Error("the option " + json_quoted(key) + " is not known here; update rnnfast");
}

const float* tensor_values(const SafetensorsFile& file, const std::string& name, const std::vector<size_t>& shape,
                           Buffer& buffer) {
    const auto found = file.tensors().find(name);
    if (found == file.tensors().end()) throw Error(file.name() + ": the weights " + name + " are missing");
    const TensorView& tensor = found->second;
    if (tensor.shape != shape)
        throw Error(file.name() + ": " + name + " has shape " + text_of(tensor.shape) + ", expected " + text_of(shape));
    const float* values = as_floats(tensor, buffer);
    if (tensor.dtype != Dtype::i8) return values;
    Buffer scale_buffer;
    const float* scales = tensor_values(file, name + ".scale", {shape[0]}, scale_buffer);
    const size_t width = shape[0] ? tensor.size / shape[0] : 0;
    for (size_t i = 0; i < tensor.size; ++i) buffer.data()[i] *= scales[i / width];
    return values;
}

void check_packed_size(const SafetensorsFile& file, const std::string& name, size_t depth, size_t columns) {
    uint64_t held = 0;
    for (const auto& [other, tensor] : file.tensors()) held += tensor.size * bytes_of(tensor.dtype);
    const uint64_t packed = static_cast<uint64_t>(depth) * round_up(columns, 64) * sizeof(float);
    if (packed > 4 * held + packing_allowance)
        throw Error(file.name() + ": " + name + " would take " + std::to_string(packed) +
                    " bytes packed, from a file of " + std::to_string(held) +
                    "; hidden_size is too small for its input");
}

LanguageModelFile::LanguageModelFile(SafetensorsFile opened) : file(std::move(opened)) {
    check_format(file, "language_model");
    const std::string& config_json = metadata_of(file, "config", "has no configuration");
    try {
        const Json config = parse_json(config_json);
        check_known(config, {"cell", "vocab_size", "embedding_size", "hidden_size", "num_layers", "dropout", "seed",
                             "weights", "variational", "tie_weights"});
        cell = cell_named(config_text(config, "cell")).name;
        vocabulary = config_whole(config, "vocab_size", 1);
        embedding_size = config_whole(config, "embedding_size", 0);
        hidden_size = config_whole(config, "hidden_size", 1);
        num_layers = config_whole(config, "num_layers", 1);
        if (config.find("weights")) weights = weights_named(config_text(config, "weights"));
        if (config.find("tie_weights")) tie_weights = config_flag(config, "tie_weights");
        if (tie_weights && embedding_size != hidden_size)
            throw Error("tie_weights wants embedding_size and hidden_size to be the same");
        if (const auto text = file.metadata().find("vocabulary"); text != file.metadata().end()) {
            tokens = TokenTable(text->second);
            if (tokens.size() != vocabulary)
                throw Error("the vocabulary has " + std::to_string(tokens.size()) + " tokens, vocab_size is " +
                            std::to_string(vocabulary));
        }
    } catch (const std::exception& error) {
        throw Error(file.name() + ": its configuration cannot be used: " + error.what());
    }
}

}  // namespace rnnfast
