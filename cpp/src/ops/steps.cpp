#include "ops/steps.h"

#include <numeric>
#include <stdexcept>
#include <string>

#include "runtime/check.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

void set_even(Steps& s, size_t steps, size_t rows) {
    s.offset.resize(steps + 1);
    for (size_t t = 0; t <= steps; ++t) s.offset[t] = t * rows;
}

void cut(const Steps& all, Range range, Steps& part) {
    part.offset.resize(range.size() + 1);
    for (size_t t = 0; t <= range.size(); ++t) part.offset[t] = all.offset[range.begin + t] - all.offset[range.begin];
}

void RaggedRows::set(const int64_t* lengths, size_t count, size_t rows) {
    order.resize(rows);
    std::iota(order.begin(), order.end(), size_t{0});
    length.assign(rows, count);
    even = true;
    if (lengths) check_lengths(lengths, rows, {0, count});
    for (size_t n = 0; lengths && n < rows; ++n) even = even && static_cast<size_t>(lengths[n]) == count;
    if (even) return set_even(steps, count, rows);
    std::sort(order.begin(), order.end(),
              [&](size_t a, size_t b) { return lengths[a] != lengths[b] ? lengths[a] > lengths[b] : a < b; });
    for (size_t n = 0; n < rows; ++n) length[n] = static_cast<size_t>(lengths[order[n]]);
    steps.offset.assign(1, 0);
    for (size_t t = 0, running = rows; t < length[0]; ++t) {
        while (length[running - 1] <= t) --running;
        steps.offset.push_back(steps.offset.back() + running);
    }
}

void RaggedRows::set_packed(const int64_t* batch_sizes, size_t count) {
    steps.offset.assign(1, 0);
    for (size_t t = 0; t < count; ++t) {
        if (batch_sizes[t] < 1 || (t && batch_sizes[t] > batch_sizes[t - 1]))
            refuse({"batch_sizes[", t, "] is ", batch_sizes[t], ": expected at least 1 and at most the size before"});
        steps.offset.push_back(steps.offset.back() + static_cast<size_t>(batch_sizes[t]));
    }
    const size_t rows = count ? steps.rows(0) : 0;
    order.resize(rows);
    std::iota(order.begin(), order.end(), size_t{0});
    length.resize(rows);
    for (size_t t = 0; t < count; ++t)
        std::fill(length.begin() + static_cast<ptrdiff_t>(t + 1 < count ? steps.rows(t + 1) : 0),
                  length.begin() + static_cast<ptrdiff_t>(steps.rows(t)), t + 1);
    even = true;
}

void set_groups(const RaggedRows& all, size_t count, std::vector<GroupRows>& groups) {
    groups.resize(count);
    if (count == 0) return;
    for (GroupRows& group : groups) {
        group.list.clear();
        group.steps.offset.assign(1, 0);
    }
    const size_t own = all.order.size() / count;
    for (size_t t = 0; t < all.steps.count(); ++t) {
        for (size_t n = 0; n < all.steps.rows(t); ++n)
            groups[all.order[n] / own].list.push_back(all.steps.offset[t] + n);
        for (GroupRows& group : groups)
            if (group.list.size() > group.steps.total()) group.steps.offset.push_back(group.list.size());
    }
}

std::vector<GroupRows> even_groups(size_t steps, size_t rows, size_t count) {
    RaggedRows all;
    all.set(nullptr, steps, rows);
    std::vector<GroupRows> groups;
    set_groups(all, count, groups);
    return groups;
}

void sort_rows(const RaggedRows& rows, Range part, const ConstView& from, const View& to) {
    for_each_row(rows.steps, part, [&](size_t row, size_t t, size_t n) {
        std::copy_n(from.row(t * rows.order.size() + rows.order[n]), from.columns, to.row(row));
    });
}

void unsort_rows(const RaggedRows& rows, Range part, size_t steps, const ConstView& from, const View& to) {
    const size_t count = rows.order.size(), until = part.end == rows.steps.count() ? steps : part.end;
    for (size_t r = part.begin * count; r < until * count; ++r) std::fill_n(to.row(r), to.columns, 0.0f);
    for_each_row(rows.steps, part, [&](size_t row, size_t t, size_t n) {
        std::copy_n(from.row(row), from.columns, to.row(t * count + rows.order[n]));
    });
}

void sort_state(const RaggedRows& rows, const ConstView& from, const View& to) {
    for (size_t n = 0; n < rows.order.size(); ++n) {
        const size_t width = from ? from.columns : 0;
        float* row = to.row(n);
        if (from) std::copy_n(from.row(rows.order[n]), width, row);
        std::fill(row + width, row + to.columns, 0.0f);
    }
}

void flip(const RaggedRows& rows, const ConstView& from, const View& to) {
    for_each_row(rows.steps, [&](size_t row, size_t t, size_t n) {
        std::copy_n(from.row(rows.steps.offset[rows.length[n] - 1 - t] + n), from.columns, to.row(row));
    });
}

}  // namespace rnnfast::core
