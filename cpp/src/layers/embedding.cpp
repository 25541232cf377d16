#include "layers/embedding.h"

#include <stdexcept>

#include "ops/embedding.h"
#include "runtime/check.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

Embedding::Embedding(size_t rows, size_t width, std::optional<uint64_t> key, const Kernels& kernels)
    : kernels_(&kernels), weight_(make_parameter("weight", {rows, width}, key.has_value())) {
    if (rows == 0 || width == 0) refuse({"Embedding: num_embeddings and embedding_dim must be at least 1"});
    normal_(weight_, key.value_or(0));
}

void Embedding::check(const int32_t* ids, size_t count) const {
    check_ids(ids, count, {rows(), "token id", "num_embeddings"});
}

void Embedding::forward(const int32_t* ids, size_t count, float* y) const {
    check(ids, count);
    embedding_forward(weight_.value.data(), width(), ids, count, y);
}

void Embedding::backward(const int32_t* ids, size_t count, const float* dy) {
    check(ids, count);
    embedding_backward(dy, width(), ids, count, weight_.grad.data());
}

void Embedding::backward(const int32_t* ids, const EvenGroups& groups, const GroupSums& sums, const float* dy) {
    check(ids, groups.steps * groups.rows);
    embedding_backward(dy, width(), {ids, groups, sums, weight_.size()}, weight_.grad.data());
}

}  // namespace rnnfast::core
