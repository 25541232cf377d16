#include "files/safetensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "files/json.h"
#include "files/system_file.h"
#include "rnnfast/error.hpp"
#include "runtime/log.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

namespace {

constexpr uint64_t largest_header = 16u << 20;
constexpr size_t length_bytes = 8;
constexpr double beyond_float = 0x1.ffffffp127;  // rounds to infinity

struct DtypeInfo {
    const char* name;
    Dtype dtype;
    size_t bytes;
    unsigned exponent;  // its bits in the upper half, or quarter, of a number; 0 for integers
};
constexpr DtypeInfo dtypes[] = {
    {"F32", Dtype::f32, 4, 0x7f80}, {"BF16", Dtype::bf16, 2, 0x7f80}, {"I8", Dtype::i8, 1, 0},
    {"F16", Dtype::f16, 2, 0x7c00}, {"F64", Dtype::f64, 8, 0x7ff0},
};
constexpr const char* readable = "F32, F64, F16, BF16 or I8";

// Other dtypes of the format, which rnnfast does not read.
struct ForeignDtype {
    const char* name;
    size_t bits;
};
constexpr ForeignDtype foreign_dtypes[] = {{"BOOL", 8},    {"U8", 8},   {"I16", 16},    {"U16", 16},    {"I32", 32},
                                           {"U32", 32},    {"I64", 64}, {"U64", 64},    {"F8_E4M3", 8}, {"F8_E5M2", 8},
                                           {"F8_E8M0", 8}, {"F4", 4},   {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"C64", 64}};

const DtypeInfo& named(Dtype dtype) { return dtypes[static_cast<size_t>(dtype)]; }

// Index of the first NaN or infinity, or `size`: numbers whose exponent, in their last 16 bits, is all ones.
size_t first_not_finite(const TensorView& t) {
    if (t.dtype == Dtype::other || t.dtype == Dtype::i8) return t.size;
    const size_t bytes = named(t.dtype).bytes;
    const unsigned ones = named(t.dtype).exponent;
    const char* at = static_cast<const char*>(t.data) + (bytes - 2);  // little-endian: the upper part comes last
    constexpr size_t block = 4096;
    for (size_t first = 0; first < t.size; first += block) {
        const size_t end = std::min(t.size, first + block);
        unsigned found = 0;
        for (size_t i = first; i < end; ++i) {
            uint16_t upper;
            std::memcpy(&upper, at + i * bytes, sizeof upper);
            found |= (upper & ones) == ones;
        }
        for (size_t i = first; found && i < end; ++i) {
            uint16_t upper;
            std::memcpy(&upper, at + i * bytes, sizeof upper);
            if ((upper & ones) == ones) return i;
        }
    }
    return t.size;
}

float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// Exact: a finite half has five bits of exponent and ten of mantissa.
float float_of_half(uint32_t half) {
    const uint32_t sign = (half & 0x8000u) << 16, mantissa = half & 0x03ffu, exponent = half >> 10 & 0x1fu;
    if (exponent) return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
    return float_of(sign | 0x3f800000u) * static_cast<float>(mantissa) * 0x1p-24f;  // subnormal, or zero
}

struct Entry {
    std::string name;
    TensorView view;
    uint64_t begin, end;
};

Entry parse_entry(const std::string& name, const Json& json, const std::string& file, uint64_t data_bytes) {
    const auto fail = [&](const std::string& why) { refuse_file({file, ": tensor ", json_quoted(name), ": ", why}); };
    const Json *dtype = json.find("dtype"), *shape = json.find("shape"), *offsets = json.find("data_offsets");
    if (json.kind != Json::Kind::object || json.members.size() != 3 || !dtype || !shape || !offsets)
        fail("expected exactly dtype, shape and data_offsets");
    const auto is_named = [&](const auto& d) { return dtype->string == d.name; };
    const auto* known = std::find_if(std::begin(dtypes), std::end(dtypes), is_named);
    const auto* foreign = std::find_if(std::begin(foreign_dtypes), std::end(foreign_dtypes), is_named);
    const bool reads = known != std::end(dtypes);
    if (dtype->kind != Json::Kind::string || (!reads && foreign == std::end(foreign_dtypes)))
        fail(std::string("its dtype is not one of safetensors; expected ") + readable);
    if (shape->kind != Json::Kind::array || shape->items.size() > 8) fail("expected a shape of at most 8 dimensions");
    Entry entry{name, {{}, nullptr, 0, reads ? known->dtype : Dtype::other, reads ? "" : dtype->string}, 0, 0};
    size_t size = 1;
    for (const Json& dimension : shape->items) {
        size_t length = 0;
        if (dimension.kind != Json::Kind::integer) fail("a dimension is not an integer");
        if (!dimension.to_size(length) || __builtin_mul_overflow(size, length, &size)) fail("its shape overflows");
        entry.view.shape.push_back(length);
    }
    if (offsets->kind != Json::Kind::array || offsets->items.size() != 2 ||
        offsets->items[0].kind != Json::Kind::integer || offsets->items[1].kind != Json::Kind::integer)
        fail("expected two data_offsets");
    entry.begin = offsets->items[0].integer;
    entry.end = offsets->items[1].integer;
    uint64_t bits = 0;
    if (entry.begin > entry.end || entry.end > data_bytes) fail("lies outside the file, which may be truncated");
    if (__builtin_mul_overflow(size, reads ? 8 * known->bytes : foreign->bits, &bits) || bits % 8 != 0 ||
        entry.end - entry.begin != bits / 8)
        fail("its shape does not match its number of bytes");
    entry.view.size = size;
    return entry;
}

using NamedTensor = const std::pair<const std::string, TensorView>*;

// Wide dtypes first, so that each tensor is aligned; within a width, in the order of the names.
std::vector<NamedTensor> in_file_order(const std::map<std::string, TensorView>& tensors) {
    std::vector<NamedTensor> order;
    for (const auto& named_tensor : tensors) order.push_back(&named_tensor);
    std::sort(order.begin(), order.end(), [](NamedTensor a, NamedTensor b) {
        const size_t wide = bytes_of(a->second.dtype), other = bytes_of(b->second.dtype);
        return wide != other ? wide > other : a->first < b->first;
    });
    return order;
}

// Everything before the tensors' bytes: the length, then the JSON.
std::string header_of(const std::vector<NamedTensor>& order, const std::map<std::string, std::string>& metadata,
                      const std::string& name) {
    std::string header = "{";
    const auto comma = [&] { header += header.size() > 1 ? "," : ""; };
    if (!metadata.empty()) {
        header += "\"__metadata__\":{";
        for (auto it = metadata.begin(); it != metadata.end(); ++it)
            header += (it == metadata.begin() ? "" : ",") + json_quoted(it->first) + ":" + json_quoted(it->second);
        header += "}";
    }
    uint64_t at = 0;
    for (const NamedTensor named_tensor : order) {
        const auto& [tensor_name, tensor] = *named_tensor;
        comma();
        header += json_quoted(tensor_name) + ":{\"dtype\":\"" + named(tensor.dtype).name + "\",\"shape\":[";
        for (size_t i = 0; i < tensor.shape.size(); ++i) header += (i ? "," : "") + std::to_string(tensor.shape[i]);
        const uint64_t end = at + tensor.size * bytes_of(tensor.dtype);
        header += "],\"data_offsets\":[" + std::to_string(at) + "," + std::to_string(end) + "]}";
        at = end;
    }
    header += "}";
    header.append((8 - header.size() % 8) % 8, ' ');  // so that the tensors are aligned
    if (header.size() > largest_header)
        refuse_file({name, ": not written: the vocabulary and names need ", header.size(),
                     " bytes, more than the largest header, ", largest_header, "; raise min_freq"});
    std::string length(length_bytes, '\0');
    for (size_t i = 0; i < length_bytes; ++i)
        length[i] = static_cast<char>(static_cast<uint64_t>(header.size()) >> (8 * i));
    return length + header;
}

void check_finite(const std::map<std::string, TensorView>& tensors, const std::string& name) {
    for (const auto& [tensor, view] : tensors)
        if (const size_t bad = first_not_finite(view); bad != view.size)
            refuse_file({name, ": not written: ", json_quoted(tensor), " has NaN or infinity at ", bad,
                         "; training diverged, try a smaller lr"});
}

}  // namespace

size_t bytes_of(Dtype dtype) { return dtype == Dtype::other ? 0 : named(dtype).bytes; }

void SafetensorsFile::check_finite() {
    for (const auto& [tensor, view] : tensors_) {
        const size_t bad = first_not_finite(view);
        if (bad != view.size)
            refuse_file({name_, ": tensor ", json_quoted(tensor), " has NaN or infinity at ", bad,
                         "; the model was damaged or its training diverged"});
    }
    finite_ = true;
}

const float* SafetensorsFile::floats(const std::string& name, const TensorView& tensor, Buffer& buffer) const {
    const auto fail = [&](const std::string& why) { refuse_file({name_, ": tensor ", json_quoted(name), " ", why}); };
    if (tensor.dtype == Dtype::other)
        fail("has dtype " + tensor.foreign + "; only " + readable + " can be read as float32");
    if (!finite_)
        if (const size_t bad = first_not_finite(tensor); bad != tensor.size)
            fail("has NaN or infinity at " + std::to_string(bad) + "; the model was damaged or its training diverged");
    if (tensor.dtype == Dtype::f32 && reinterpret_cast<uintptr_t>(tensor.data) % alignof(float) == 0)
        return static_cast<const float*>(tensor.data);
    buffer.reserve(tensor.size);
    float* to = buffer.data();
    const auto* from = static_cast<const unsigned char*>(tensor.data);
    const auto two_bytes = [from](size_t i) { return static_cast<uint32_t>(from[2 * i] | from[2 * i + 1] << 8); };
    switch (tensor.dtype) {
        case Dtype::f32:
            if (tensor.size) std::memcpy(to, from, tensor.size * sizeof(float));
            break;
        case Dtype::bf16:
            for (size_t i = 0; i < tensor.size; ++i) to[i] = float_of(two_bytes(i) << 16);
            break;
        case Dtype::f16:
            for (size_t i = 0; i < tensor.size; ++i) to[i] = float_of_half(two_bytes(i));
            break;
        case Dtype::f64:
            for (size_t i = 0; i < tensor.size; ++i) {
                double value;
                std::memcpy(&value, from + i * sizeof value, sizeof value);
                if (std::abs(value) >= beyond_float)
                    fail("has a number at " + std::to_string(i) + " that is too large for float32");
                to[i] = static_cast<float>(value);
            }
            break;
        case Dtype::i8:
            for (size_t i = 0; i < tensor.size; ++i) to[i] = static_cast<float>(static_cast<int8_t>(from[i]));
            break;
        case Dtype::other:
            break;
    }
    return to;
}

SafetensorsFile SafetensorsFile::open(const std::string& path) {
    const FileBytes bytes = read_file(path);
    SafetensorsFile file =
        view({static_cast<const char*>(bytes.memory.get()), bytes.size}, path, bytes.mapped ? "mapped" : "read");
    file.mapping_ = bytes.memory;
    return file;
}

SafetensorsFile SafetensorsFile::view(std::string_view bytes, const std::string& name, const char* how) {
    const auto fail = [&](const std::string& why) { refuse_file({name, ": not a safetensors file: ", why}); };
    if (bytes.size() < length_bytes) fail("only " + std::to_string(bytes.size()) + " bytes long");
    uint64_t header = 0;
    for (size_t i = 0; i < length_bytes; ++i)
        header |= static_cast<uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
    if (header > largest_header) fail("its header claims " + std::to_string(header) + " bytes");
    if (header > bytes.size() - length_bytes) fail("truncated within its header");
    const size_t header_bytes = static_cast<size_t>(header), data_bytes = bytes.size() - length_bytes - header_bytes;

    Json root;
    try {
        root = parse_json(bytes.substr(length_bytes, header_bytes));
    } catch (const Error& error) {
        fail(error.what());
    }
    if (root.kind != Json::Kind::object) fail("its header is not a JSON object");

    SafetensorsFile file;
    file.name_ = name;
    std::vector<Entry> entries;
    for (const auto& [key, value] : root.members) {
        if (key != "__metadata__") {
            entries.push_back(parse_entry(key, value, name, data_bytes));
            continue;
        }
        if (value.kind != Json::Kind::object) fail("its metadata is not an object");
        for (const auto& [field, text] : value.members) {
            if (text.kind != Json::Kind::string) fail("metadata " + json_quoted(field) + " is not a string");
            file.metadata_[field] = text.string;
        }
    }
    std::sort(entries.begin(), entries.end(),
              [](const Entry& a, const Entry& b) { return a.begin != b.begin ? a.begin < b.begin : a.end < b.end; });
    uint64_t at = 0;
    for (const Entry& entry : entries) {
        if (entry.begin != at) fail("tensors overlap or leave a gap at byte " + std::to_string(at));
        at = entry.end;
    }
    if (at != data_bytes) fail(std::to_string(data_bytes - at) + " bytes do not belong to a tensor");

    for (Entry& entry : entries) {
        entry.view.data = bytes.data() + length_bytes + header + entry.begin;
        file.tensors_.emplace(std::move(entry.name), std::move(entry.view));
    }
    const auto version = file.metadata_.find("format_version"), format = file.metadata_.find("format");
    if (format != file.metadata_.end() && format->second == "rnnfast" && version != file.metadata_.end() &&
        version->second == "3")
        file.restore_zeros(bytes.size());
    report(LogLevel::info, {name, ": ", bytes.size(), " bytes, ", how});
    return file;
}

std::string safetensors_bytes(const std::map<std::string, TensorView>& tensors,
                              const std::map<std::string, std::string>& metadata, const std::string& name) {
    check_finite(tensors, name);
    const std::vector<NamedTensor> order = in_file_order(tensors);
    std::string bytes = header_of(order, metadata, name);
    for (const NamedTensor tensor : order)
        bytes.append(static_cast<const char*>(tensor->second.data),
                     tensor->second.size * bytes_of(tensor->second.dtype));
    return bytes;
}

void write_safetensors(int descriptor, const std::string& name, const std::map<std::string, TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata) {
    check_finite(tensors, name);
    const std::vector<NamedTensor> order = in_file_order(tensors);
    const std::string header = header_of(order, metadata, name);
    write_all(descriptor, header.data(), header.size());
    for (const NamedTensor named_tensor : order)
        write_all(descriptor, named_tensor->second.data,
                  named_tensor->second.size * bytes_of(named_tensor->second.dtype));
}

void write_safetensors(const std::string& path, const std::map<std::string, TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata) {
    OutputFile file(path);
    write_safetensors(file.descriptor(), path, tensors, metadata);
    file.close();
}

}  // namespace rnnfast::core
