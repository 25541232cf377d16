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

    // Every check of the tensors, for products in this precision; what is left to do can only fail for want of memory.
    void check(Weights weights) const;
    // The options with these weights, after that check.
    LanguageModelOptions checked_options(Weights weights) const;
};

}  // namespace rnnfast::core
