// What every object with weights offers Python: names, values, gradients, loading.
#pragma once

#include <pybind11/stl.h>

#include <algorithm>

#include "bindings/arrays.h"
#include "layers/optim.h"
#include "runtime/fork.h"

namespace rnnfast::bindings {

// Adds parameters(), gradients(), set_parameter(), zero_grad() and the like to a class with gradients_mutex().
template <class Class, class Bound>
void add_parameters(Bound& bound, Parameters (*list)(Class&), void (*changed)(Class&)) {
    bound.def("parameters", [list](py::object self) {
        py::dict all;
        for (const Parameter* p : list(py::cast<Class&>(self)))
            all[py::str(p->name)] = view(p->value.data(), p->shape, self);
        return all;
    });
    bound.def("gradients", [list](py::object self) {
        py::dict all;
        for (const Parameter* p : list(py::cast<Class&>(self)))
            all[py::str(p->name)] = view(p->grad.data(), p->shape, self, true);
        return all;
    });
    bound.def(
        "set_parameter",
        [list, changed](Class& self, const std::string& name, const Array<float>& value) {
            for (Parameter* p : list(self)) {
                if (p->name != name) continue;
                check_shape(value, std::vector<py::ssize_t>(p->shape.begin(), p->shape.end()), "parameter " + name);
                std::copy_n(value.data(), p->size(), p->value.data());
                changed(self);
                return;
            }
            throw std::invalid_argument("no parameter " + name);
        },
        py::arg("name"), py::arg("value"));
    bound.def(
        "zero_grad",
        [list](Class& self) {
            const ForkLock lock(self.gradients_mutex(), [] {});  // zeros are whole, whatever was there
            zero_grad(list(self));
        },
        py::call_guard<py::gil_scoped_release>());
    bound.def(
        "grad_squares", [list](Class& self, double start) { return grad_squares(list(self), start); }, py::arg("start"),
        py::call_guard<py::gil_scoped_release>());
    bound.def(
        "scale_grads", [list](Class& self, double factor) { scale_grads(self.kernels(), list(self), factor); },
        py::arg("factor"), py::call_guard<py::gil_scoped_release>());
    bound.def("frozen", [list](Class& self) {
        std::vector<std::string> names;
        for (const Parameter* p : list(self))
            if (p->frozen) names.push_back(p->name);
        return names;
    });
    bound.def(
        "set_frozen",
        [list](Class& self, const std::vector<std::string>& names) {
            for (Parameter* p : list(self)) p->frozen = std::find(names.begin(), names.end(), p->name) != names.end();
        },
        py::arg("names"));
    bound.def(
        "clip_grad_value", [list](Class& self, float limit) { clip_grad_value(self.kernels(), list(self), limit); },
        py::arg("limit"), py::call_guard<py::gil_scoped_release>());
    bound.def(
        "make_optimizer",
        [list](Class& self, const OptimizerOptions& options) {
            return std::make_unique<Optimizer>(self.kernels(), list(self), options);
        },
        py::arg("options"), py::keep_alive<0, 1>());
    bound.def("weights_changed", [changed](Class& self) { changed(self); });
}

}  // namespace rnnfast::bindings
