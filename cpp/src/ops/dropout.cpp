#include "ops/dropout.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/random.h"

namespace rnnfast::core {

namespace {

// x or 0, without a branch: a processor would guess a mask of one half wrong every other time.
float kept(float x, bool keep) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    bits &= 0u - static_cast<uint32_t>(keep);
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

}  // namespace

void dropout(const float* x, float* y, size_t size, float p, uint64_t key) { dropout(x, y, Range{0, size}, p, key); }

void dropout(const float* x, float* y, Range part, float p, uint64_t key) {
    constexpr size_t per_draw = 4;  // one 64-bit number decides four elements
    const auto threshold = static_cast<uint64_t>(std::lround(static_cast<double>(p) * 65536.0));
    const float scale = p < 1.0f ? 1.0f / (1.0f - p) : 0.0f;
    const size_t first = part.begin / per_draw, draws = (part.end + per_draw - 1) / per_draw - first;
    parallel(threads_for(4.0 * static_cast<double>(part.size())), [&](const Team& team) {
        const Range own = split(draws, team.size, team.index);
        for (size_t draw = first + own.begin; draw < first + own.end; ++draw) {
            const uint64_t bits = random_bits(key, draw);
            const size_t i = draw * per_draw;
            for (size_t j = std::max(i, part.begin); j < std::min(i + per_draw, part.end); ++j)
                y[j] = kept(x[j] * scale, (bits >> (16 * (j - i)) & 0xffff) >= threshold);
        }
    });
}

void dropout(const float* x, float* y, size_t width, const std::vector<size_t>& offset, Dropout d,
             const RowGroups& keys) {
    dropout(x, y, width, offset, {0, offset.size() - 1}, d, keys);
}

void dropout(const float* x, float* y, size_t width, const std::vector<size_t>& offset, Range steps, Dropout d,
             const RowGroups& keys) {
    const uint64_t key = keys.key;
    if (!d.same_each_step)
        return dropout(x, y, Range{offset[steps.begin] * width, offset[steps.end] * width}, d.p, key);
    for (size_t t = steps.begin; t < steps.end; ++t)  // a row has the same place in every step, so the same mask
        dropout(x + offset[t] * width, y + offset[t] * width, (offset[t + 1] - offset[t]) * width, d.p, key);
}

void dropout(const float* x, float* y, size_t width, const std::vector<GroupRows>& groups, Range steps, Dropout d,
             const RowGroups& keys) {
    for (size_t g = 0; g < groups.size(); ++g) {
        const auto& [own, list] = groups[g];
        for (size_t t = steps.begin; t < std::min(steps.end, own.count()); ++t)
            for (size_t r = own.offset[t], run; r < own.offset[t + 1]; r += run) {
                run = groups[g].places().run(r, own.offset[t + 1]);
                const size_t first = (d.same_each_step ? r - own.offset[t] : r) * width,
                             shift = list[r] * width - first;
                dropout(x + shift, y + shift, Range{first, first + run * width}, d.p, keys.keys[g]);
            }
    }
}

}  // namespace rnnfast::core
