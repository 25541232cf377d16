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
