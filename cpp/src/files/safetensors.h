// The safetensors container: an 8-byte little-endian header length, a JSON header, then the tensors' bytes.
// Stricter than the reference reader: it also refuses duplicate keys, holes and, when they are requested, non-finite
// numbers. The file may contain tensors of dtypes that rnnfast does not read.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/buffer.h"

namespace rnnfast::core {

enum class Dtype { f32, bf16, i8, f16, f64, other };
size_t bytes_of(Dtype dtype);

struct TensorView {
    std::vector<size_t> shape;
    const void* data;  // may be unaligned in a file of another writer
    size_t size;       // numbers
    Dtype dtype = Dtype::f32;
    std::string foreign = {};  // the name of another dtype
};

// A file mapped into memory, or its bytes, checked before use.
class SafetensorsFile {
public:
    static SafetensorsFile open(const std::string& path);
    // The bytes must outlive the result. `how` they came is for the log.
    static SafetensorsFile view(std::string_view bytes, const std::string& name, const char* how = "not copied");

    const std::string& name() const { return name_; }
    const std::map<std::string, std::string>& metadata() const { return metadata_; }
    const std::map<std::string, TensorView>& tensors() const { return tensors_; }
    // Throws Error for a NaN or infinity in any tensor that can be read as floats.
    void check_finite();

    // The values of a tensor as floats: in place if they are aligned floats, else in `buffer`. F16, BF16 and I8 are
    // exact, F64 is rounded. Throws Error for another dtype, NaN, infinity, and numbers beyond the range of float.
    const float* floats(const std::string& name, const TensorView& tensor, Buffer& buffer) const;

private:
    // Puts the zeros back into the matrices that the metadata "sparse" names.
    void restore_zeros(uint64_t file_bytes);

    std::string name_;
    std::shared_ptr<const void> mapping_;
    std::vector<std::shared_ptr<const Buffer>> restored_;
    std::map<std::string, std::string> metadata_;
    std::map<std::string, TensorView> tensors_;
    bool finite_ = false;  // true: all numbers are known to be finite
};

// The file's bytes, in memory; `name` is for messages.
std::string safetensors_bytes(const std::map<std::string, TensorView>& tensors,
                              const std::map<std::string, std::string>& metadata, const std::string& name);

// Writes to an open file; `name` is for messages. Throws Error and writes nothing if a number is not finite; throws
// std::system_error if the system cannot write.
void write_safetensors(int descriptor, const std::string& name, const std::map<std::string, TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata);

// The same, overwriting `path`. A caller that must not lose the old file writes a new one and renames it.
void write_safetensors(const std::string& path, const std::map<std::string, TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace rnnfast::core
