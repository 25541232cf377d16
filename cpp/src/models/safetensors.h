// The safetensors container: an 8-byte little-endian header length, a JSON header, then the tensors' bytes.
// Stricter than the reference reader: duplicate keys, holes and values that are not finite are refused too.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace rnnfast {

struct TensorView {
    std::vector<size_t> shape;
    const float* data;
    size_t size;
};

// A file read whole into memory and checked before anything of it is used.
class SafetensorsFile {
public:
    static SafetensorsFile open(const std::string& path);
    static SafetensorsFile parse(std::string bytes, const std::string& name);

    const std::map<std::string, std::string>& metadata() const { return metadata_; }
    const std::map<std::string, TensorView>& tensors() const { return tensors_; }

private:
    std::vector<float> data_;  // the tensors' bytes, aligned
    std::map<std::string, std::string> metadata_;
    std::map<std::string, TensorView> tensors_;
};

// Written beside and renamed, so that a reader, or a kill, never meets half a file.
void write_safetensors(const std::string& path, const std::map<std::string, TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace rnnfast
