// How the rows of a sequence lie: those of all steps one after another, sorted long to short, so that the rows still
// running at step t are a prefix.
#pragma once

#include <algorithm>
#include <vector>

#include "ops/view.h"

namespace rnnfast::core {

struct Steps {
    std::vector<size_t> offset;  // step t has rows [offset[t], offset[t + 1])
    size_t count() const { return offset.size() - 1; }
    size_t rows(size_t t) const { return offset[t + 1] - offset[t]; }
    size_t total() const { return offset.back(); }
    // Where some of step t's rows lie among those of all steps.
    Range at(size_t t, Range rows) const { return {offset[t] + rows.begin, offset[t] + rows.end}; }
    // Those of some rows that still run at step t.
    Range running(Range some, size_t t) const { return {std::min(some.begin, rows(t)), std::min(some.end, rows(t))}; }
};
// Where rows lie that are some of those of every step; nullptr: they are all.
struct RowPlaces {
    const size_t* list = nullptr;
    size_t at(size_t r) const { return list ? list[r] : r; }
    // How many of the rows from r to `end` lie one after another.
    size_t run(size_t r, size_t end) const {
        size_t next = r + 1;
        while (list && next < end && list[next] == list[r] + (next - r)) ++next;
        return list ? next - r : end - r;
    }
};
// All rows run for all steps; reuses the memory it has.
void set_even(Steps& s, size_t steps, size_t rows);

// Those of `steps` steps that a caller asks for: none means all.
inline Range steps_asked(Range asked, size_t steps) {
    return asked.size() ? Range{std::min(asked.begin, steps), std::min(asked.end, steps)} : Range{0, steps};
}

// The steps of `range` as a sequence by themselves; rows that ended before are a suffix and drop out.
void cut(const Steps& all, Range range, Steps& part);

// Rows of different length, sorted long to short, so that those still running are always a prefix.
struct RaggedRows {
    Steps steps;
    std::vector<size_t> order, length;  // sorted row -> the caller's row, and its length
    bool even = true;                   // the caller's rows lie as they are needed here: of equal length, or packed

    // lengths: [rows] each in 0..steps, or nullptr: all steps. Throws std::invalid_argument.
    void set(const int64_t* lengths, size_t steps, size_t rows);
    // Rows that the caller has sorted and packed: step t has batch_sizes[t] of them. Throws std::invalid_argument.
    void set_packed(const int64_t* batch_sizes, size_t steps);
};

// Some of the rows as they lie when they are sorted alone, and where these lie among all.
struct GroupRows {
    Steps steps;
    std::vector<size_t> list;  // [steps.total()]
    RowPlaces places() const { return {list.data()}; }
};
// Groups of equal size of the caller's rows.
void set_groups(const RaggedRows& all, size_t count, std::vector<GroupRows>& groups);
// The same of rows that all have so many steps.
std::vector<GroupRows> even_groups(size_t steps, size_t rows, size_t count);

// Calls body(packed row, t, sorted row) for every row of the steps in `part`.
template <class Body>
void for_each_row(const Steps& steps, Range part, Body body) {
    for (size_t t = part.begin; t < part.end; ++t)
        for (size_t n = 0; n < steps.rows(t); ++n) body(steps.offset[t] + n, t, n);
}
template <class Body>
void for_each_row(const Steps& steps, Body body) {
    for_each_row(steps, {0, steps.count()}, body);
}

// The rows of the steps in `part` from the caller's order, [T, N, W], to that of the steps, [total, W].
void sort_rows(const RaggedRows& rows, Range part, const ConstView& from, const View& to);
// Back again, with zeros beyond a row's length; `steps`: T. The steps after the longest row belong to the last part.
void unsort_rows(const RaggedRows& rows, Range part, size_t steps, const ConstView& from, const View& to);
// The rows of a state, [N, W], whose view may be empty: zeros. Zeros fill the columns that `to` has beyond W.
void sort_state(const RaggedRows& rows, const ConstView& from, const View& to);

// Each row's steps in reverse order: what a scan in the other direction reads and writes. Its own inverse.
void flip(const RaggedRows& rows, const ConstView& from, const View& to);
template <class T>
void flip(const RaggedRows& rows, const T* from, T* to) {
    for_each_row(rows.steps, [&](size_t row, size_t t, size_t n) {
        to[row] = from[rows.steps.offset[rows.length[n] - 1 - t] + n];
    });
}

}  // namespace rnnfast::core
