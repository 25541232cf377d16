#include "layers/group_gradients.h"
#include "runtime/sentence.h"

#include <stdexcept>

namespace rnnfast::core {

void check_memory_of_groups(const Parameters& parameters, const RowGroups& groups) {
    for (const Parameter* p : parameters)
        if (groups.sums.apart && !p->statistic && p->grad.size() != groups.count() * p->size())
            refuse({"backward: the gradients have no memory for ", groups.count(), " groups apart"});
}

void linear_backward(const Kernels& kernels, LinearGradients g, Parameter& weight, Parameter* bias,
                     const RowGroups& groups, const std::vector<GroupRows>& rows, GroupGradientsMemory& m) {
    if (groups && g.dx) {
        LinearGradients dx = g;
        dx.dweight = dx.dbias = nullptr;
        linear_backward(kernels, dx);
        g.dx = nullptr;
    }
    const LinearGradients all = g;
    const auto take = [](const std::vector<size_t>& list, const float* from, size_t width, Buffer& to) {
        to.reserve(list.size() * width);
        for (size_t i = 0; i < list.size(); ++i) std::copy_n(from + list[i] * width, width, to.data() + i * width);
        return to.data();
    };
    sum_groups(kernels, bias ? Parameters{&weight, bias} : Parameters{&weight}, groups, m, [&](size_t group) {
        if (groups) {
            const std::vector<size_t>& list = rows[group].list;
            g.rows = list.size();
            g.x = take(list, all.x, g.inputs, m.x);
            g.dy = take(list, all.dy, g.outputs, m.dy);
        }
        g.weight = weight.value.data();
        g.dweight = weight.grad.data();
        g.dbias = bias ? bias->grad.data() : nullptr;
        if (g.rows) linear_backward(kernels, g);
    });
}

}  // namespace rnnfast::core
