#include "ops/embedding.h"

#include <algorithm>
#include <cstring>
#include <vector>

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

namespace {

struct Touched {  // a place [t, n] of an id
    int32_t id;
    size_t group, place;
};

// The sums of one id's gradients over groups [first, last), in a tree in which untouched groups are left out: adding
// their zeros would change no bit. Returns where those groups end; nothing is written if they have no place.
struct TouchedSum {
    const float* dy;
    size_t width;
    Range columns;
    const std::vector<float>& weights;

    const Touched* add(const Touched* from, const Touched* end, Range groups, float* sum) const {
        if (from == end || from->group >= groups.end) return from;
        if (groups.size() == 1) {
            const float weight = weights.empty() ? 1.0f : weights[groups.begin];
            std::fill_n(sum, columns.size(), 0.0f);
            for (; from != end && from->group < groups.end; ++from)
                for (size_t j = 0; j < columns.size(); ++j) sum[j] += dy[from->place * width + columns.begin + j];
            for (size_t j = 0; j < columns.size(); ++j) sum[j] *= weight;
            return from;
        }
        const size_t half = groups.begin + groups.size() / 2;
        const Touched* middle = add(from, end, {groups.begin, half}, sum);
        if (middle == from) return add(from, end, {half, groups.end}, sum);
        float* other = sum + columns.size();
        const Touched* last = add(middle, end, {half, groups.end}, other);
        for (size_t j = 0; last != middle && j < columns.size(); ++j) sum[j] += other[j];
        return last;
    }
};

}  // namespace

void embedding_backward(const float* dy, size_t width, const GroupedIds& given, float* dtable) {
    const EvenGroups& groups = given.groups;
    std::vector<Touched> touched;
    for (size_t g = 0; g < groups.count; ++g)
        for (size_t t = 0; t < groups.steps; ++t)
            for (size_t n = 0; n < groups.size(); ++n) {
                const size_t place = groups.place(g, t) + n;
                touched.push_back({given.ids[place], g, place});
            }
    if (given.sums.apart) {
        for (const Touched& at : touched) {
            float* to = dtable + at.group * given.table + static_cast<size_t>(at.id) * width;
            for (size_t j = 0; j < width; ++j) to[j] += dy[at.place * width + j];
        }
        return;
    }
    std::stable_sort(touched.begin(), touched.end(), [](const Touched& a, const Touched& b) { return a.id < b.id; });
    parallel(threads_for(static_cast<double>(touched.size() * width)), [&](const Team& team) {
        const Range own = split(width, team.size, team.index, 16);
        std::vector<float> sums((tree_depth(groups.count) + 1) * own.size());
        const Touched* end = touched.data() + touched.size();
        for (const Touched* at = touched.data(); at != end && own.size();) {
            const Touched* next = std::find_if(at, end, [&](const Touched& other) { return other.id != at->id; });
            TouchedSum{dy, width, own, given.sums.weights}.add(at, next, {0, groups.count}, sums.data());
            float* target = dtable + static_cast<size_t>(at->id) * width + own.begin;
            for (size_t j = 0; j < own.size(); ++j) target[j] += sums[j];
            at = next;
        }
    });
}

}  // namespace rnnfast::core
