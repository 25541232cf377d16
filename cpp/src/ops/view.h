// Rows of floats in memory that belongs to someone else.
#pragma once

#include <algorithm>
#include <type_traits>

#include "kernels/table.h"
#include "runtime/buffer.h"
#include "runtime/parallel.h"

namespace rnnfast::core {

// A view without a base is empty, and so is every part of it.
template <class T>
struct BasicView {
    T* base = nullptr;
    size_t rows = 0, columns = 0, stride = 0;

    BasicView() = default;
    BasicView(T* base_, size_t rows_, size_t columns_) : BasicView(base_, rows_, columns_, columns_) {}
    BasicView(T* base_, size_t rows_, size_t columns_, size_t stride_)
        : base(base_), rows(rows_), columns(columns_), stride(stride_) {}
    template <class U, class = std::enable_if_t<std::is_convertible_v<U*, T*>>>
    BasicView(const BasicView<U>& v) : BasicView(v.base, v.rows, v.columns, v.stride) {}

    // As products read and write rows: evenly strided, or `run` rows and then those `period` rows after them, and so
    // on: what a thread owns over several steps.
    using Strided = std::conditional_t<std::is_const_v<T>, ConstRows, Rows>;
    operator Strided() const { return {base, stride, 0, 0}; }
    Strided in_runs(size_t run, size_t period) const { return {base, stride, run, period * stride}; }

    explicit operator bool() const { return base != nullptr; }
    T* row(size_t r) const { return base + r * stride; }
    BasicView row_range(Range r) const { return {base ? base + r.begin * stride : nullptr, r.size(), columns, stride}; }
    BasicView column_range(Range c) const { return {base ? base + c.begin : nullptr, rows, c.size(), stride}; }
};

using View = BasicView<float>;
using ConstView = BasicView<const float>;

// As many columns as both have
inline void copy_rows(const ConstView& from, const View& to) {
    for (size_t r = 0; r < to.rows; ++r) std::copy_n(from.row(r), std::min(from.columns, to.columns), to.row(r));
}

// A buffer's memory, which grows if it is too small.
inline View reserve(Buffer& buffer, size_t rows, size_t columns) {
    buffer.reserve(rows * columns);
    return {buffer.data(), rows, columns};
}

}  // namespace rnnfast::core
