#include "files/model_file.h"

#include <algorithm>
#include <unordered_set>

#include "ops/packing.h"
#include "rnnfast/error.hpp"
#include "runtime/sentence.h"

namespace rnnfast::core {

namespace {

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
    if (kind == "network") return "; load it as a Network";
    if (kind == "sequence_classifier") return "; load it as a Classifier";
    if (kind == "sequence_tagger") return "; load it as a Tagger";
    if (kind == "autoregressor") return "; load it as an Autoregressor";
    if (kind == "forecaster") return "; load it as a Forecaster";
    if (kind == "linear_ar") return ", which C++ does not read; load it in Python, with rf.load";
    return "; update rnnfast";
}

}  // namespace

const std::string& metadata_of(const SafetensorsFile& file, const char* key, const char* otherwise) {
    const auto found = file.metadata().find(key);
    if (found == file.metadata().end()) refuse_file({file.name(), ": ", otherwise});
    return found->second;
}

void check_format(const SafetensorsFile& file, const std::string& kind) {
    const char* other = "a safetensors file, but not a model of rnnfast; its layers may be loaded by their tensors";
    if (metadata_of(file, "format", other) != "rnnfast") refuse_file({file.name(), ": ", other});
    const std::string& version = metadata_of(file, "format_version", "has no format_version");
    if (version != "1" && version != "2" && version != "3")
        refuse_file({file.name(), ": format version ", json_quoted(version),
                     ", this rnnfast reads versions 1, 2 and 3; update rnnfast"});
    const std::string& held = metadata_of(file, "kind", "does not name the kind of its model");
    if (held != kind) refuse_file({file.name(), ": holds a ", json_quoted(held), ", expected a ", kind, advice(held)});
}

namespace {

const TensorView& checked_tensor(const SafetensorsFile& file, const std::string& name,
                                 const std::vector<size_t>& shape) {
    const auto found = file.tensors().find(name);
    if (found == file.tensors().end()) refuse_file({file.name(), ": the weights ", name, " are missing"});
    const TensorView& tensor = found->second;
    if (tensor.shape != shape)
        refuse_file({file.name(), ": ", name, " has shape ", text_of(tensor.shape), ", expected ", text_of(shape)});
    if (tensor.dtype == Dtype::i8 && shape.empty())
        refuse_file({file.name(), ": ", name, " is a single I8 number, expected rows with a scale each"});
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
    const std::string scale_name = scale_of(name);
    const TensorView scale = checked_tensor(file, scale_name, {shape[0]});
    const float* scales = file.floats(scale_name, scale, scale_buffer);
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
    const std::string scale_name = scale_of(name);
    const TensorView scale = checked_tensor(file, scale_name, {shape[0]});
    if (scale.dtype == Dtype::i8) refuse_file({file.name(), ": ", scale_name, " is I8, expected F32"});
    readable(scale_name, scale);
}

void check_packed_size(const SafetensorsFile& file, const std::string& name, size_t depth, size_t columns,
                       Weights weights, Packing packing) {
    uint64_t held = 0;
    for (const auto& [other, tensor] : file.tensors()) held += tensor.size * bytes_of(tensor.dtype);
    const uint64_t wide = packing == Packing::panels ? round_up(columns, 64) : columns;
    const uint64_t packed = static_cast<uint64_t>(depth) * wide * sizeof(float);
    if (packed > 4 * held + packing_allowance)
        refuse_file({file.name(), ": ", name, " would take ", packed, " bytes packed, from a file of ", held,
                     "; hidden_size is too small for its input"});
    if (weights == Weights::int8 && packing == Packing::panels && depth > deepest_int8)
        refuse_file({file.name(), ": a row of ", name, " has ", depth, " numbers, too long for int8, at most ",
                     deepest_int8, "; use f32 or bf16"});
}

void check_tensors(const SafetensorsFile& file, const std::vector<ExpectedTensor>& expected,
                   const std::vector<std::string_view>& beginnings, Weights weights) {
    std::unordered_set<std::string> known;
    for (const ExpectedTensor& e : expected) {
        check_tensor(file, e.name, e.shape);
        known.insert(e.name);
        known.insert(scale_of(e.name));
        size_t depth = 1;  // no overflow: the file holds the tensor
        for (size_t i = 1; i < e.shape.size(); ++i) depth *= e.shape[i];
        if (e.shape.size() > 1) check_packed_size(file, e.name, depth, e.columns, weights, e.packing);
    }
    for (const auto& [name, tensor] : file.tensors())
        for (const std::string_view beginning : beginnings)
            if (name.compare(0, beginning.size(), beginning) == 0 && !known.count(name))
                refuse_file({file.name(), ": has ", name, ", which its configuration does not; the ",
                             "configuration is of another model"});
}

}  // namespace rnnfast::core
