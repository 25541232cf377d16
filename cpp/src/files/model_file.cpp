#include "files/model_file.h"

#include <algorithm>
#include <unordered_set>

#include "ops/cell.h"
#include "ops/packing.h"
#include "rnnfast/error.hpp"

namespace rnnfast::core {

namespace {

constexpr size_t most = 0x7fffffff;               // of any size: products of two fit 64 bits
constexpr uint64_t packing_allowance = 16 << 20;  // bytes for packing in addition to four times the file

std::string text_of(const std::vector<size_t>& shape) {
    std::string text = "[";
    for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + "]";
}

// What to do with a file of another kind.
std::string advice(const std::string& kind) {
    if (kind == "language_model") return "; load it as a LanguageModel";
    if (kind == "seq2seq") return "; load it as a Translator";
    if (kind == "sequence_classifier") return ": this is a sequence classifier's file; load it in Python, with rf.load";
    if (kind == "autoregressor" || kind == "linear_ar")
        return ": this is a forecaster's file; load it in Python, with rf.load";
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

void config_check_share(const Json& config, const char* key, bool may_be_one) {
    const Json* value = config.find(key);
    if (!value) return;
    const bool number = value->kind == Json::Kind::integer || value->kind == Json::Kind::number;
    if (!number || !(value->number >= 0 && (may_be_one ? value->number <= 1 : value->number < 1)))
        throw Error(std::string(key) + " must be a number from 0 to " + (may_be_one ? "1" : "below 1"));
}

void config_check_seed(const Json& config) {
    const Json* value = config.find("seed");
    if (value && value->kind != Json::Kind::integer) throw Error("seed must be a whole number from 0 to 2^64 - 1");
}

namespace {

const TensorView& checked_tensor(const SafetensorsFile& file, const std::string& name,
                                 const std::vector<size_t>& shape) {
    const auto found = file.tensors().find(name);
    if (found == file.tensors().end()) throw Error(file.name() + ": the weights " + name + " are missing");
    const TensorView& tensor = found->second;
    if (tensor.shape != shape)
        throw Error(file.name() + ": " + name + " has shape " + text_of(tensor.shape) + ", expected " + text_of(shape));
    if (tensor.dtype == Dtype::i8 && shape.empty())
        throw Error(file.name() + ": " + name + " is a single I8 number, expected rows with a scale each");
    return tensor;
}

std::string scale_of(const std::string& name) { return name + ".scale"; }

}  // namespace

const float* tensor_values(const SafetensorsFile& file, const std::string& name, const std::vector<size_t>& shape,
                           Buffer& buffer) {
    const TensorView& tensor = checked_tensor(file, name, shape);
    const float* values = file.floats(name, tensor, buffer);
    if (tensor.dtype != Dtype::i8) return values;
    Buffer scale_buffer;
    const TensorView& scale = checked_tensor(file, scale_of(name), {shape[0]});
    const float* scales = file.floats(scale_of(name), scale, scale_buffer);
    const size_t width = shape[0] ? tensor.size / shape[0] : 0;
    for (size_t i = 0; i < tensor.size; ++i) buffer.data()[i] *= scales[i / width];
    return values;
}

void check_tensor(const SafetensorsFile& file, const std::string& name, const std::vector<size_t>& shape) {
    const auto readable = [&](const std::string& named, const TensorView& tensor) {
        Buffer none;
        if (tensor.dtype == Dtype::other || tensor.dtype == Dtype::f64) file.floats(named, tensor, none);
    };
    const TensorView& tensor = checked_tensor(file, name, shape);
    readable(name, tensor);
    if (tensor.dtype != Dtype::i8) return;
    const TensorView& scale = checked_tensor(file, scale_of(name), {shape[0]});
    if (scale.dtype == Dtype::i8) throw Error(file.name() + ": " + scale_of(name) + " is I8, expected F32");
    readable(scale_of(name), scale);
}

void check_packed_size(const SafetensorsFile& file, const std::string& name, size_t depth, size_t columns,
                       Weights weights, Packing packing) {
    uint64_t held = 0;
    for (const auto& [other, tensor] : file.tensors()) held += tensor.size * bytes_of(tensor.dtype);
    const uint64_t wide = packing == Packing::panels ? round_up(columns, 64) : columns;
    const uint64_t packed = static_cast<uint64_t>(depth) * wide * sizeof(float);
    if (packed > 4 * held + packing_allowance)
        throw Error(file.name() + ": " + name + " would take " + std::to_string(packed) +
                    " bytes packed, from a file of " + std::to_string(held) +
                    "; hidden_size is too small for its input");
    if (weights == Weights::int8 && packing == Packing::panels && depth > deepest_int8)
        throw Error(file.name() + ": a row of " + name + " has " + std::to_string(depth) +
                    " numbers, too long for int8, at most " + std::to_string(deepest_int8) + "; use f32 or bf16");
}

void check_tensors(const SafetensorsFile& file, const std::vector<ExpectedTensor>& expected,
                   const std::vector<std::string_view>& beginnings, Weights weights) {
    std::unordered_set<std::string> known;
    for (const ExpectedTensor& e : expected) {
        check_tensor(file, e.name, e.shape);
        known.insert(e.name);
        known.insert(scale_of(e.name));
        if (e.shape.size() == 2) check_packed_size(file, e.name, e.shape[1], e.columns, weights, e.packing);
    }
    for (const auto& [name, tensor] : file.tensors())
        for (const std::string_view beginning : beginnings)
            if (name.compare(0, beginning.size(), beginning) == 0 && !known.count(name))
                throw Error(file.name() + ": holds " + name + ", for which its configuration has no place; the " +
                            "configuration is of another model");
}

LanguageModelFile::LanguageModelFile(SafetensorsFile opened) : file(std::move(opened)) {
    check_format(file, "language_model");
    file.check_finite();
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
        config_check_share(config, "dropout", false);
        config_check_seed(config);
        if (config.find("variational")) config_flag(config, "variational");
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

void LanguageModelFile::check(Weights wanted) const {
    const size_t gate_rows = cell_named(cell).gates * hidden_size;
    const size_t columns = GateOrder{cell_named(cell).gates, hidden_size}.columns();
    if (num_layers > file.tensors().size())
        throw Error(file.name() + ": its configuration asks for " + std::to_string(num_layers) +
                    " layers; their weights are missing");
    std::vector<ExpectedTensor> all;
    if (embedding_size)
        all.push_back({"embedding.weight", {vocabulary, embedding_size}, embedding_size, Packing::rows});
    for (size_t layer = 0; layer < num_layers; ++layer) {
        const std::string end = "_l" + std::to_string(layer);
        const bool one_hot = layer == 0 && !embedding_size;
        const size_t inputs = layer ? hidden_size : one_hot ? vocabulary : embedding_size;
        all.push_back({"rnn.weight_ih" + end, {gate_rows, inputs}, columns, one_hot ? Packing::rows : Packing::panels});
        all.push_back({"rnn.weight_hh" + end, {gate_rows, hidden_size}, columns});
        all.push_back({"rnn.bias_ih" + end, {gate_rows}, 0});
        all.push_back({"rnn.bias_hh" + end, {gate_rows}, 0});
    }
    if (tie_weights)
        all.front().packing = Packing::panels, all.front().columns = vocabulary;
    else
        all.push_back({"output.weight", {vocabulary, hidden_size}, vocabulary});
    all.push_back({"output.bias", {vocabulary}, 0});
    check_tensors(file, all, {"embedding.", "rnn.", "output."}, wanted);
}

}  // namespace rnnfast::core
