// What a model file holds, checked in full before anything of it is used. docs/model-file.md describes the format.
#pragma once

#include "files/safetensors.h"
#include "files/vocabulary.h"
#include "rnnfast/weights.hpp"

namespace rnnfast::core {

// Numbers of a tensor as floats whatever they are stored as; I8 has a scale for each row in the tensor "NAME.scale".
// Throws Error if it is missing or has another shape. In place if it can be, else in `buffer`.
const float* tensor_values(const SafetensorsFile& file, const std::string& name, const std::vector<size_t>& shape,
                           Buffer& buffer);

// The checks of tensor_values without the numbers.
void check_tensor(const SafetensorsFile& file, const std::string& name, const std::vector<size_t>& shape);

// How a matrix is packed: `columns` as wide as whole panels, or rows that are gathered as they are.
enum class Packing { panels, rows };
// Throws Error where packing a [columns, depth] matrix would take far more memory than the file gives reason to: a few
// very long rows that are padded to whole blocks. In int8 rows may be no longer than a sum of 32 bits allows.
void check_packed_size(const SafetensorsFile& file, const std::string& name, size_t depth, size_t columns,
                       Weights weights, Packing packing = Packing::panels);

// A tensor that a configuration asks for.
struct ExpectedTensor {
    std::string name;
    std::vector<size_t> shape;
    size_t columns;  // of a matrix when it is packed
    Packing packing = Packing::panels;
};
// Throws Error unless every tensor is there in its shape, in a size that can be packed, and no other tensor has a name
// that begins like those of layers: a configuration that leaves out what the file holds is of another model.
void check_tensors(const SafetensorsFile& file, const std::vector<ExpectedTensor>& expected,
                   const std::vector<std::string_view>& beginnings, Weights weights);

// Throws Error unless the file holds a model of rnnfast of this kind, in a version that is known here.
void check_format(const SafetensorsFile& file, const std::string& kind);
// The metadata of a key; Error says `otherwise` if there is none.
const std::string& metadata_of(const SafetensorsFile& file, const char* key, const char* otherwise);

// Members of a configuration; Error for another kind of value.
size_t config_whole(const Json& config, const char* key, size_t least);
std::string config_text(const Json& config, const char* key);
bool config_flag(const Json& config, const char* key);
// Options of training, which do not matter for running and may be missing; a value that none can have is still an
// error. least <= value <= most, or < most
void config_check_share(const Json& config, const char* key, bool may_be_one);
void config_check_seed(const Json& config);
// Error for a member that is not among `known`: it would change the results.
void check_known(const Json& config, const std::vector<std::string_view>& known);

struct LanguageModelFile {
    explicit LanguageModelFile(SafetensorsFile opened);

    SafetensorsFile file;
    std::string cell;
    size_t vocabulary = 0, embedding_size = 0, hidden_size = 0, num_layers = 0;
    bool tie_weights = false;  // the output product uses the embedding's table
    Weights weights = Weights::f32;
    TokenTable tokens;  // of size 0 if the model has no vocabulary of text

    // Every check of the tensors, for products in this precision; what is left to do can only fail for want of memory.
    void check(Weights weights) const;
};

}  // namespace rnnfast::core
