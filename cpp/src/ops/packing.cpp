#include "ops/packing.h"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "runtime/parallel.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

const GemmKernel& gemm_for(const Kernels& kernels, Weights weights, size_t gates) {
    static_assert(static_cast<int>(Weights::bf16) == gemm_bf16 && static_cast<int>(Weights::int8) == gemm_int8);
    return kernels.gemm[static_cast<size_t>(weights)][gates == 3 ? gemm_of_3 : gemm_wide];
}

namespace {

constexpr size_t widest_panel = 64, deepest_part = 64;  // of a part packed while it is read: 16 KB, which stay in L1

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
      words_(round_up((depth + kernel.terms - 1) / kernel.terms, kernel.depth_unit)),
      columns_(columns),
      padded_(round_up(std::max(columns, least_columns), kernel.width)),
      scales_(kernel.rescale ? padded_ : 0),
      offsets_(kernel.rescale ? padded_ : 0) {
    if (kernel.rescale && depth > deepest_int8)
        refuse({"a row of ", depth, " weights is too long for int8, at most ", deepest_int8, "; use f32 or bf16"});
}

void PackedMatrix::use_own_memory() {
    data_.reserve(words() * padded_);
    columns_lent_.clear();
    rows_lent_.clear();
    sparse_ = {};
}

void PackedMatrix::find_zero_blocks() { sparse_ = SparseStrips(Panels{kernel_, data_.data(), words(), padded_}); }

// In place of the lines that are missing.
void PackedMatrix::lend_zeros(std::vector<const float*>& lines, size_t size) {
    if (std::find(lines.begin(), lines.end(), nullptr) == lines.end()) return;
    if (zeros_.size() < size) zeros_ = Buffer(size);
    std::replace(lines.begin(), lines.end(), static_cast<const float*>(nullptr),
                 static_cast<const float*>(zeros_.data()));
}

void PackedMatrix::borrow_columns(std::vector<const float*> columns) {
    columns_lent_ = std::move(columns);
    columns_lent_.resize(padded_, nullptr);
    lend_zeros(columns_lent_, depth_);
    rows_lent_.clear();
}

void PackedMatrix::borrow_rows(std::vector<const float*> rows) {
    rows_lent_ = std::move(rows);
    lend_zeros(rows_lent_, columns_);
    columns_lent_.clear();
}

void PackedMatrix::pack_part(size_t column, Range depth, float* out) const {
    if (!columns_lent_.empty()) {
        const float* lines[widest_panel];
        for (size_t j = 0; j < width(); ++j) lines[j] = columns_lent_[column + j] + depth.begin;
        return kernel_->pack({depth.size(), width(), lines, out});
    }
    const size_t valid = column < columns_ ? std::min(width(), columns_ - column) : 0;
    for (size_t k = depth.begin; k < depth.end; ++k, out += width()) {
        const float* row = rows_lent_[k] + column;
        if (valid == width()) {
            for (size_t j = 0; j < valid; j += unit_block) std::memcpy(out + j, row + j, unit_block * sizeof(float));
            continue;
        }
        std::copy_n(row, valid, out);
        std::fill(out + valid, out + width(), 0.0f);
    }
}

void PackedMatrix::fill_int8(const std::vector<const float*>& columns) {
    const size_t panel_width = kernel_->width;
    Buffer line(words() + 1, Buffer::Uninitialised{});
    data_.zero();
    for (size_t j = 0; j < columns_; ++j) {
        const float* from = columns[j];
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

namespace {

// A panel whose columns are rounded to words of several terms.
void pack_rounded(const GemmKernel& kernel, const PackPanel& p) {
    constexpr size_t lines = 16;  // depth of a block: one cache line of every column, read whole before it is evicted
    for (size_t k = 0; k < p.depth; k += lines) {
        const size_t count = std::min(lines, p.depth - k), words = (count + kernel.terms - 1) / kernel.terms;
        for (size_t j = 0; j < p.width; ++j) {
            float rounded[lines] = {};
            const float* line = p.columns[j] + k;
            // Columns lie far apart: the hardware does not guess where they go on.
            if (k + 2 * lines < p.depth) __builtin_prefetch(line + 2 * lines);
            kernel.along(count, line, rounded);
            for (size_t i = 0; i < words; ++i) p.out[(k / kernel.terms + i) * p.width + j] = rounded[i];
        }
    }
}

}  // namespace

void PackedMatrix::fill_from_columns(const std::vector<const float*>& columns) {
    use_own_memory();
    if (kernel_->rescale) {
        fill_int8(columns);
        return find_zero_blocks();
    }
    if (kernel_->depth_unit > 1) data_.zero();  // also the words beyond the depth
    const Buffer zeros(depth_);
    std::vector<const float*> all(padded_, zeros.data());
    for (size_t j = 0; j < columns_; ++j)
        if (columns[j]) all[j] = columns[j];
    parallel(threads_for(static_cast<double>(data_.size())), [&](const Team& team) {
        const Range own = split(padded_, team.size, team.index, width());
        for (size_t first = own.begin; first < own.end; first += width()) {
            const PackPanel panel{depth_, width(), all.data() + first, data_.data() + first * words()};
            kernel_->pack ? kernel_->pack(panel) : pack_rounded(*kernel_, panel);
        }
    });
    find_zero_blocks();
}

void PackedMatrix::fill_from_rows(const std::vector<const float*>& rows) {
    use_own_memory();
    const size_t panel_width = kernel_->width, terms = kernel_->terms;
    const Buffer zeros(columns_);
    const auto row_or_zeros = [&](size_t k) { return k < depth_ && rows[k] ? rows[k] : zeros.data(); };
    parallel(threads_for(static_cast<double>(data_.size())), [&](const Team& team) {
        const Range own = split(words(), team.size, team.index);
        for (size_t k = own.begin; k < own.end; ++k) {
            const float* from = row_or_zeros(k * terms);
            const float* next = terms > 1 ? row_or_zeros(k * terms + 1) : nullptr;
            for (size_t first = 0; first < padded_; first += panel_width) {
                float* out = data_.data() + first * words() + k * panel_width;
                const size_t valid = first < columns_ ? std::min(panel_width, columns_ - first) : 0;
                if (next) {
                    kernel_->across(valid, from + first, next + first, out);
                } else if (valid == panel_width) {  // whole blocks, copied without a call
                    for (size_t j = 0; j < valid; j += unit_block)
                        std::memcpy(out + j, from + first + j, unit_block * sizeof(float));
                } else {
                    std::copy_n(from + first, valid, out);
                }
                std::fill(out + valid, out + panel_width, 0.0f);
            }
        }
    });
}

namespace {

std::vector<const float*> all_of(size_t count, const std::function<const float*(size_t)>& line) {
    std::vector<const float*> lines(count);
    for (size_t i = 0; i < count; ++i) lines[i] = line(i);
    return lines;
}

}  // namespace

void PackedMatrix::fill_from_columns(const std::function<const float*(size_t)>& column) {
    fill_from_columns(all_of(columns_, column));
}

void PackedMatrix::fill_from_rows(const std::function<const float*(size_t)>& row) {
    fill_from_rows(all_of(depth_, row));
}

namespace {

template <class Pattern>
auto* row_of(const Pattern& rows, size_t r) {
    return rows.base + (rows.run ? r / rows.run * rows.jump + r % rows.run * rows.stride : r * rows.stride);
}

// Words of a left row, in int8 with its scale after them. A tile is a cache line of each of 16 rows, which lie in
// different sets of L1 if a row has an odd number of lines.
size_t row_words(const PackedMatrix& b) {
    constexpr size_t line = alignment / sizeof(float);
    const size_t words = round_up(b.words() + (b.kernel().rescale ? 1 : 0), line);
    return b.kernel().depth_unit > 1 && words / line % 2 == 0 ? words + line : words;
}

}  // namespace

size_t left_scratch(const PackedMatrix& b, size_t rows) { return b.kernel().along ? rows * row_words(b) : 0; }

LeftRows left_rows(const PackedMatrix& b, const ConstRows& a, size_t rows, float* scratch) {
    if (!b.kernel().along) return {a, rows};
    const size_t stride = row_words(b), used = (b.depth() + b.kernel().terms - 1) / b.kernel().terms;
    for (size_t r = 0; r < rows; ++r) {
        float* words = scratch + r * stride;
        b.kernel().along(b.depth(), row_of(a, r), words);
        if (b.kernel().depth_unit > 1) std::fill(words + used, words + stride, 0.0f);
    }
    return {{scratch, stride, 0, 0}, rows};
}

namespace {

constexpr size_t few_rows = 2;  // that read the lines as they are: with more, packing costs less

// Block by block, so that the lines of each stay in L1 while all rows read them.
void multiply_columns(const PackedMatrix& b, const LeftRows& a, Range columns, const float* start, const Rows& c) {
    for (size_t j = columns.begin; j < columns.end; j += unit_block)
        for (size_t r = 0; r < a.count; ++r) {
            const size_t at = j - columns.begin;
            UnpackedProduct p;
            p.depth = b.depth();
            p.columns = unit_block;
            p.a = row_of(a.at, r);
            p.lines = b.columns_lent().data() + j;
            p.start = start ? start + at : nullptr;
            p.c = row_of(c, r) + at;
            b.kernel().with_columns(p);
        }
}

// Columns beyond the matrix are zeros, whose products carry what is not finite into a row as any others do.
void add_zeros(const float* a, size_t depth, const float* start, float* c, size_t columns) {
    float sum = 0;
    for (size_t k = 0; k < depth; ++k) sum += a[k] * 0.0f;
    for (size_t j = 0; j < columns; ++j) c[j] = (start ? start : c)[j] + sum;
}

void multiply_rows(const PackedMatrix& b, const LeftRows& a, Range columns, const float* start, const Rows& c) {
    const size_t valid = std::max(columns.begin, std::min(columns.end, b.columns())) - columns.begin;
    for (size_t k = 0; k < b.depth(); k += deepest_part)
        for (size_t r = 0; r < a.count; ++r) {
            UnpackedProduct p;
            p.depth = std::min(deepest_part, b.depth() - k);
            p.columns = valid;
            p.a = row_of(a.at, r) + k;
            p.lines = b.rows_lent().data() + k;
            p.offset = columns.begin;
            p.start = k ? nullptr : start;
            p.c = row_of(c, r);
            b.kernel().with_rows(p);
        }
    for (size_t r = 0; r < a.count && valid < columns.size(); ++r)
        add_zeros(row_of(a.at, r), b.depth(), start ? start + valid : nullptr, row_of(c, r) + valid,
                  columns.size() - valid);
}

void multiply_borrowed(const PackedMatrix& b, const LeftRows& a, Range columns, const float* start, const Rows& c) {
    alignas(alignment) float parts[deepest_part * widest_panel];
    const size_t width = b.width(), together = widest_panel / width * width;
    for (size_t first = columns.begin; first < columns.end; first += together) {
        const size_t count = std::min(together, columns.end - first), at = first - columns.begin;
        for (size_t k = 0; k < b.depth(); k += deepest_part) {
            const Range depth{k, std::min(k + deepest_part, b.depth())};
            for (size_t j = 0; j < count; j += width) b.pack_part(first + j, depth, parts + j * depth.size());
            Gemm g;
            g.rows = a.count;
            g.depth = depth.size();
            g.columns = count;
            g.a = {a.at.base + k, a.at.stride, a.at.run, a.at.jump};
            g.panels = parts;
            g.start = k ? nullptr : start + at;
            g.c = {c.base + at, c.stride, c.run, c.jump};
            b.kernel().run(g);
        }
    }
}

// Row by row without the blocks of zeros; false if that does not give the bits.
bool multiply_sparse(const PackedMatrix& b, const LeftRows& a, Range columns, const float* start, const Rows& c) {
    if (a.count > b.sparse().most_rows() || !start || columns.size() % unit_block) return false;
    for (size_t r = 0; r < a.count; ++r)
        if (!b.sparse().multiply(row_of(a.at, r), columns.begin, columns.size(), start, row_of(c, r))) return false;
    return true;
}

}  // namespace

void multiply(const PackedMatrix& b, const LeftRows& a, size_t first_column, size_t columns, const float* start,
              const Rows& c) {
    const Range range{first_column, first_column + columns};
    if (!b.rows_lent().empty() && a.count <= few_rows) return multiply_rows(b, a, range, start, c);
    if (!b.columns_lent().empty() && a.count <= few_rows && columns % unit_block == 0)
        return multiply_columns(b, a, range, start, c);
    if (b.borrowed()) return multiply_borrowed(b, a, range, start, c);
    Gemm g;
    g.rows = a.count;
    g.depth = b.words();
    g.columns = columns;
    g.a = a.at;
    g.panels = b.panel(first_column);
    g.start = b.kernel().rescale ? b.offsets() + first_column : start;
    g.c = c;
    if (!multiply_sparse(b, a, range, g.start, c)) b.kernel().run(g);
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
