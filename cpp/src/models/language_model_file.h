// Contents of a language model's file, checked in full before any part of it is used.
#pragma once

#include "files/model_file.h"
#include "models/language_model.h"

namespace rnnfast::core {

struct LanguageModelFile {
    explicit LanguageModelFile(SafetensorsFile opened);

    SafetensorsFile file;
    LanguageModelOptions options;  // with the weights the file asks for
    TokenTable tokens;             // of size 0 if the model has no vocabulary of text

    // The options with other weights, for a model whose tensors check() then checks.
    LanguageModelOptions options_for(Weights weights) const;
    // Every check of the tensors; what is left to do can only fail for want of memory.
    void check(const LanguageModel& model) const;
};

}  // namespace rnnfast::core
