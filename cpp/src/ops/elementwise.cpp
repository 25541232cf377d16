#include "ops/elementwise.h"

#include "runtime/parallel.h"

namespace rnnfast::core {

void tanh_(const Kernels& kernels, size_t size, float* x) {
    parallel(threads_for(20.0 * static_cast<double>(size)), [&](const Team& team) {
        const Range own = split(size, team.size, team.index, unit_block);
        kernels.tanh(own.size(), x + own.begin);
    });
}

void tanh_gradient_(const Kernels& kernels, size_t size, const float* y, float* dy) {
    parallel(threads_for(4.0 * static_cast<double>(size)), [&](const Team& team) {
        const Range own = split(size, team.size, team.index, unit_block);
        kernels.tanh_gradient(own.size(), y + own.begin, dy + own.begin);
    });
}

}  // namespace rnnfast::core
