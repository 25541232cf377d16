// What a model file holds, checked in full before anything of it is used. docs/model-file.md describes the format.
#pragma once

#include "models/safetensors.h"
#include "models/vocabulary.h"
#include "rnnfast/weights.hpp"

namespace rnnfast {

// Numbers of a tensor as floats whatever they are stored as; I8 has a scale for each row in the tensor "NAME.scale".
// Throws Error if it is missing or has another shape. In place if it can be, else in `buffer`.
const float* tensor_values(const SafetensorsFile& file, const std::string& name, const std::vector<size_t>& shape,
                           Buffer& buffer);

// Throws Error where packing a [rows, depth] matrix in blocks of 16 units would take far more memory than the file
// gives reason to: a few very long rows that are padded to whole blocks.
void check_packed_size(const SafetensorsFile& file, const std::string& name, size_t depth, size_t columns);

// Throws Error unless the file holds a model of rnnfast of this kind, in a version that is known here.
void check_format(const SafetensorsFile& file, const std::string& kind);
// The metadata of a key; Error says `otherwise` if there is none.
const std::string& metadata_of(const SafetensorsFile& file, const char* key, const char* otherwise);

// Members of a configuration; Error for another kind of value.
size_t config_whole(const Json& config, const char* key, size_t least);
std::string config_text(const Json& config, const char* key);
bool config_flag(const Json& config, const char* key);
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
};

}  // namespace rnnfast
