#include "layers/linear_cross_entropy.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "ops/softmax_loss.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

double linear_cross_entropy(const Kernels& kernels, const LinearCrossEntropy& l) {
    std::vector<int32_t> targets(l.rows);
    size_t counted = 0;
    for (size_t r = 0; r < l.rows; ++r) {
        const int64_t target = l.targets[r];
        if (target != l.ignored && (target < 0 || static_cast<size_t>(target) >= l.classes))
            refuse_index({"Target ", target, " is out of bounds: expected 0 to ", l.classes - 1, ", or ", l.ignored,
                          " (ignore_index)"});
        targets[r] = target == l.ignored ? -1 : static_cast<int32_t>(target);
        counted += target != l.ignored;
    }
    std::vector<double> nll(l.rows);
    Buffer scratch;
    OutputLoss o{};
    o.rows = l.rows;
    o.hidden = o.h_stride = o.left_stride = o.words = o.dh_stride = l.inputs;
    o.vocabulary = l.classes;
    o.h = l.x;
    o.weight = o.left = l.weight;
    o.gemm = &kernels.product();
    o.bias = l.bias;
    o.targets = targets.data();
    o.nll = nll.data();
    o.weight_per_row = l.mean ? (counted ? 1.0f / static_cast<float>(counted) : 0.0f) : 1.0f;
    o.dh = l.dx;
    o.dweight = l.dweight;
    o.dbias = l.dbias;
    o.scratch = &scratch;
    output_loss(kernels, o);
    double sum = 0;
    for (const double row : nll) sum += row;
    if (!l.mean) return sum;
    return counted ? sum / static_cast<double>(counted) : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace rnnfast::core
