// What a file of kind "seq2seq" holds, checked in full before anything of it is used, and the model it makes.
#pragma once

#include "files/model_file.h"
#include "models/seq2seq/seq2seq.h"

namespace rnnfast::core {

struct TranslatorFile {
    explicit TranslatorFile(SafetensorsFile opened);

    SafetensorsFile file;
    Seq2SeqOptions options;     // with the weights the file asks for
    TokenTable source, target;  // of size 0 if the model has no vocabulary of text there

    // Every check of the tensors, for products in this precision.
    void check(Weights weights) const;
};

// Ids 0 to 3 of both vocabularies
constexpr int32_t unknown_id = 0, pad_id = 1, bos_id = 2, eos_id = 3;

// To run only: no gradients. Throws Error for tensors that are missing or have another shape.
std::unique_ptr<const Seq2Seq> translator_of(const TranslatorFile& file, Weights weights, const Kernels& kernels);

}  // namespace rnnfast::core
