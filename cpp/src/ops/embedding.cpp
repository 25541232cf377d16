#include "ops/embedding.h"

#include <cstring>

#include "runtime/parallel.h"

namespace rnnfast::core {

void embedding_forward(const float* table, size_t width, const int32_t* ids, size_t rows, float* y) {
    parallel(threads_for(static_cast<double>(rows * width)), [&](const Team& team) {
        const Range own = split(rows, team.size, team.index);
        for (size_t r = own.begin; r < own.end; ++r)
            std::memcpy(y + r * width, table + static_cast<size_t>(ids[r]) * width, width * sizeof(float));
    });
}

void embedding_backward(const float* dy, size_t width, const int32_t* ids, size_t rows, float* dtable) {
    parallel(threads_for(static_cast<double>(rows * width)), [&](const Team& team) {
        const Range own = split(width, team.size, team.index, 16);
        for (size_t r = 0; r < rows; ++r) {
            float* target = dtable + static_cast<size_t>(ids[r]) * width;
            for (size_t j = own.begin; j < own.end; ++j) target[j] += dy[r * width + j];
        }
    });
}

}  // namespace rnnfast::core
