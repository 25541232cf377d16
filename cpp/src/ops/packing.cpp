#include "ops/packing.h"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "runtime/parallel.h"

namespace rnnfast::core {

const GemmKernel& gemm_for(const Kernels& kernels, Weights weights, size_t gates) {
    static_assert(static_cast<int>(Weights::bf16) == gemm_bf16 && static_cast<int>(Weights::int8) == gemm_int8);
    return kernels.gemm[static_cast<size_t>(weights)][gates == 3 ? gemm_of_3 : gemm_wide];
}

namespace {

uint32_t word_bits(float word) {
    uint32_t bits;
    std::memcpy(&bits, &word, sizeof bits);
    return bits;
}
float word_of(uint32_t bits) {
    float word;
    std::memcpy(&word, &bits, sizeof word);
    return word;
}

}  // namespace

float int8_row(const Kernels& kernels, const float* row, size_t size, int8_t* rounded) {
    const size_t words = (size + 3) / 4;
    Buffer packed(words + 1, Buffer::Uninitialised{});
    kernels.gemm[gemm_int8][gemm_wide].along(size, row, packed.data());
    for (size_t i = 0; i < size; ++i)
        rounded[i] = static_cast<int8_t>(static_cast<int>(word_bits(packed.data()[i / 4]) >> 8 * (i % 4) & 0xff) - 128);
    return packed.data()[words];
}

void bf16_row(const Kernels& kernels, const float* row, size_t size, uint16_t* rounded) {
    Buffer packed((size + 1) / 2, Buffer::Uninitialised{});
    kernels.gemm[gemm_bf16][gemm_wide].along(size, row, packed.data());
    for (size_t i = 0; i < size; ++i)
        rounded[i] = static_cast<uint16_t>(word_bits(packed.data()[i / 2]) >> 16 * (i % 2));
}

void round_row(const Kernels& kernels, Weights weights, const float* row, size_t size, float* rounded) {
    if (weights == Weights::f32) std::copy_n(row, size, rounded);
    if (weights == Weights::bf16) {
        std::vector<uint16_t> upper(size);
        bf16_row(kernels, row, size, upper.data());
        for (size_t i = 0; i < size; ++i) rounded[i] = word_of(static_cast<uint32_t>(upper[i]) << 16);
    }
    if (weights == Weights::int8) {
        std::vector<int8_t> whole(size);
        const float scale = int8_row(kernels, row, size, whole.data());
        for (size_t i = 0; i < size; ++i) rounded[i] = static_cast<float>(whole[i]) * scale;
    }
}

PackedMatrix::PackedMatrix(const GemmKernel& kernel, size_t depth, size_t columns, size_t least_columns)
    : kernel_(&kernel),
      depth_(depth),
      columns_(columns),
      padded_(round_up(std::max(columns, least_columns), kernel.width)),
      data_(words() * padded_, Buffer::Uninitialised{}),
      scales_(kernel.rescale ? padded_ : 0),
      offsets_(kernel.rescale ? padded_ : 0) {
    if (kernel.rescale && depth > deepest_int8)
        throw std::invalid_argument("a row of " + std::to_string(depth) + " weights is too long for int8, at most " +
                                    std::to_string(deepest_int8) + "; use f32 or bf16");
}

void PackedMatrix::fill_int8(const std::function<const float*(size_t)>& column) {
    const size_t panel_width = kernel_->width;
    Buffer line(words() + 1, Buffer::Uninitialised{});
    data_.zero();
    for (size_t j = 0; j < columns_; ++j) {
        const float* from = column(j);
        if (!from) continue;  // a column of zeros, whose scale is zero
        kernel_->along(depth_, from, line.data());
        float* out = data_.data() + j / panel_width * panel_width * words() + j % panel_width;
        int32_t sum = 0;
        for (size_t k = 0; k < words(); ++k) {
            const uint32_t word = word_bits(line.data()[k]) ^ 0x80808080u;  // each byte less 128
            out[k * panel_width] = word_of(word);
            for (int shift = 0; shift < 32; shift += 8) sum += static_cast<int8_t>(word >> shift);
        }
        scales_.data()[j] = line.data()[words()];
        offsets_.data()[j] = word_of(static_cast<uint32_t>(-128 * sum));
    }
}

void PackedMatrix::fill_from_columns(const std::function<const float*(size_t)>& column) {
    if (kernel_->rescale) return fill_int8(column);
    const size_t panel_width = kernel_->width, terms = kernel_->terms;
    constexpr size_t lines = 16;  // depth of a block: one cache line of every column, read whole before it is evicted
    parallel(threads_for(static_cast<double>(data_.size())), [&](const Team& team) {
        const Range own = split(padded_, team.size, team.index, panel_width);
        for (size_t first = own.begin; first < own.end; first += panel_width) {
            constexpr size_t widest = 64;
            const float* columns[widest];
            for (size_t j = 0; j < panel_width; ++j) columns[j] = first + j < columns_ ? column(first + j) : nullptr;
            float* out = data_.data() + first * words();
            for (size_t k = 0; k < depth_; k += lines) {
                const size_t count = std::min(lines, depth_ - k), words_here = (count + terms - 1) / terms;
                for (size_t j = 0; j < panel_width; ++j) {
                    float rounded_line[lines] = {};
                    const float* line = columns[j] ? columns[j] + k : rounded_line;
                    // Columns lie far apart: the hardware does not guess where they go on.
                    if (columns[j] && k + 2 * lines < depth_) __builtin_prefetch(line + 2 * lines);
                    if (columns[j] && kernel_->along) {
                        kernel_->along(count, line, rounded_line);
                        line = rounded_line;
                    }
                    for (size_t i = 0; i < words_here; ++i) out[(k / terms + i) * panel_width + j] = line[i];
                }
            }
        }
    });
}

void PackedMatrix::fill_from_rows(const std::function<const float*(size_t)>& row) {
    const size_t panel_width = kernel_->width, terms = kernel_->terms;
    const Buffer zeros(columns_);
    const auto row_or_zeros = [&](size_t k) {
        const float* from = k < depth_ ? row(k) : nullptr;
        return from ? from : zeros.data();
    };
    parallel(threads_for(static_cast<double>(data_.size())), [&](const Team& team) {
        const Range own = split(words(), team.size, team.index);
        for (size_t k = own.begin; k < own.end; ++k) {
            const float* from = row_or_zeros(k * terms);
            const float* next = terms > 1 ? row_or_zeros(k * terms + 1) : nullptr;
            for (size_t first = 0; first < padded_; first += panel_width) {
                float* out = data_.data() + first * words() + k * panel_width;
                const size_t valid = first < columns_ ? std::min(panel_width, columns_ - first) : 0;
                if (next)
                    kernel_->across(valid, from + first, next + first, out);
                else
                    std::copy_n(from + first, valid, out);
                std::fill(out + valid, out + panel_width, 0.0f);
            }
        }
    });
}

namespace {

// Words of a left row, in int8 with its scale after them.
size_t row_words(const PackedMatrix& b) {
    return round_up(b.words() + (b.kernel().rescale ? 1 : 0), alignment / sizeof(float));
}

}  // namespace

size_t left_scratch(const PackedMatrix& b, size_t rows) { return b.kernel().along ? rows * row_words(b) : 0; }

LeftRows left_rows(const PackedMatrix& b, const ConstRows& a, size_t rows, float* scratch) {
    if (!b.kernel().along) return {a, rows};
    const size_t stride = row_words(b);
    for (size_t r = 0; r < rows; ++r) {
        const size_t at = a.run ? r / a.run * a.jump + r % a.run * a.stride : r * a.stride;
        b.kernel().along(b.depth(), a.base + at, scratch + r * stride);
    }
    return {{scratch, stride, 0, 0}, rows};
}

void multiply(const PackedMatrix& b, const LeftRows& a, size_t first_column, size_t columns, const float* start,
              const Rows& c) {
    Gemm g;
    g.rows = a.count;
    g.depth = b.words();
    g.columns = columns;
    g.a = a.at;
    g.panels = b.panel(first_column);
    g.start = b.kernel().rescale ? b.offsets() + first_column : start;
    g.c = c;
    b.kernel().run(g);
    if (!b.kernel().rescale) return;
    Rescale s;
    s.rows = a.count;
    s.columns = columns;
    s.row_scales = a.at.base + b.words();
    s.row_scale_stride = a.at.stride;
    s.column_scales = b.scales() + first_column;
    s.start = start;
    s.c = c;
    b.kernel().rescale(s);
}

}  // namespace rnnfast::core
