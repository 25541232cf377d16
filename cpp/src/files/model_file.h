// Checks that all model files share, run before any part of a file is used. docs/model-file.md specifies the format.
#pragma once

#include "files/safetensors.h"
#include "files/vocabulary.h"
#include "rnnfast/weights.hpp"

namespace rnnfast::core {

// The values of a tensor as floats, for every stored dtype; I8 has a scale per row in the tensor "NAME.scale". Throws
// Error if it is missing or has another shape. Points into the file if possible, else into `buffer`.
const float* tensor_values(const SafetensorsFile& file, const std::string& name, const std::vector<size_t>& shape,
                           Buffer& buffer);

// The checks of tensor_values, without its result.
void check_tensor(const SafetensorsFile& file, const std::string& name, const std::vector<size_t>& shape);

// How a matrix is packed: with `columns` padded to whole panels, or as rows that are gathered as they are.
enum class Packing { panels, rows };
// Throws Error if packing a [columns, depth] matrix would take far more memory than the file justifies: a few very long
// rows, padded to whole blocks. In int8, the length of rows is limited by the 32-bit sum.
void check_packed_size(const SafetensorsFile& file, const std::string& name, size_t depth, size_t columns,
                       Weights weights, Packing packing = Packing::panels);

// A tensor that a configuration requires.
struct ExpectedTensor {
    std::string name;
    std::vector<size_t> shape;
    size_t columns;  // of a matrix when it is packed
    Packing packing = Packing::panels;
};
// Throws Error unless every tensor is present with its shape and a size that can be packed. No other tensor may have a
// name that begins like those of layers: such a file belongs to another model than its configuration.
void check_tensors(const SafetensorsFile& file, const std::vector<ExpectedTensor>& expected,
                   const std::vector<std::string_view>& beginnings, Weights weights);

// Throws Error unless the file contains an rnnfast model of this kind, in a known version.
void check_format(const SafetensorsFile& file, const std::string& kind);
// The metadata of a key; throws Error with `otherwise` if it is absent.
const std::string& metadata_of(const SafetensorsFile& file, const char* key, const char* otherwise);

}  // namespace rnnfast::core
