#include "core/packing.h"

#include <algorithm>
#include <vector>

#include "core/parallel.h"

namespace rnnfast {

PackedMatrix::PackedMatrix(const GemmKernel& kernel, size_t depth, size_t columns, size_t least_columns)
    : kernel_(&kernel),
      depth_(depth),
      columns_(columns),
      padded_(round_up(std::max(columns, least_columns), kernel.width)),
      data_(depth * padded_, Buffer::Uninitialised{}) {}

void PackedMatrix::fill_from_columns(const std::function<const float*(size_t)>& column) {
    const size_t panel_width = kernel_->width;
    constexpr size_t lines = 16;  // depth of a block: one cache line of every column, read whole before it is evicted
    parallel(threads_for(static_cast<double>(data_.size())), [&](const Team& team) {
        const Range own = split(padded_, team.size, team.index, panel_width);
        constexpr size_t widest = 64;
        const float* columns[widest];
        for (size_t first = own.begin; first < own.end; first += panel_width) {
            for (size_t j = 0; j < panel_width; ++j) columns[j] = first + j < columns_ ? column(first + j) : nullptr;
            float* out = data_.data() + first * depth_;
            for (size_t k = 0; k < depth_; k += lines) {
                const size_t end = std::min(k + lines, depth_);
                for (size_t j = 0; j < panel_width; ++j)
                    for (size_t i = k; i < end; ++i) out[i * panel_width + j] = columns[j] ? columns[j][i] : 0.0f;
            }
        }
    });
}

void PackedMatrix::fill_from_rows(const std::function<const float*(size_t)>& row) {
    const size_t panel_width = kernel_->width;
    parallel(threads_for(static_cast<double>(data_.size())), [&](const Team& team) {
        const Range own = split(depth_, team.size, team.index);
        for (size_t k = own.begin; k < own.end; ++k) {
            const float* from = row(k);
            for (size_t first = 0; first < padded_; first += panel_width) {
                float* out = data_.data() + first * depth_ + k * panel_width;
                const size_t valid = from && first < columns_ ? std::min(panel_width, columns_ - first) : 0;
                if (valid) std::memcpy(out, from + first, valid * sizeof(float));
                std::fill(out + valid, out + panel_width, 0.0f);
            }
        }
    });
}

}  // namespace rnnfast
