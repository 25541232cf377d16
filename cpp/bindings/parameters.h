// What every object with parameters offers Python: names, values, gradients, loading.
#pragma once

#include <algorithm>

#include "bindings/arrays.h"
#include "layers/optim.h"
#include "runtime/fork.h"

namespace rnnfast::bindings {

// A layer with the lock of its gradients, to which the backwards of several threads add.
template <class Layer>
class Trainable : public Layer {
public:
    using Layer::Layer;
    ForkSafeMutex& gradients_mutex() { return gradients_mutex_; }

private:
    ForkSafeMutex gradients_mutex_;
};

template <class Class>
void set_parameter(Class& self, const std::string& name, const Array<float>& value) {
    for (Parameter* p : self.parameters()) {
        if (p->name != name) continue;
        check_shape(value, std::vector<py::ssize_t>(p->shape.begin(), p->shape.end()), "parameter " + name);
        const py::gil_scoped_release release;
        std::copy_n(value.data(), p->size(), p->value.data());
        self.weights_changed();
        return;
    }
    throw std::invalid_argument("no parameter " + name);
}

template <class Class, class... Options>
void add_values(py::class_<Class, Options...>& bound) {
    bound.def("parameters", [](py::object self) {
        py::dict all;
        for (const Parameter* p : py::cast<Class&>(self).parameters())
            all[py::str(p->name)] = view(p->value.data(), p->shape, self);
        return all;
    });
    bound.def("set_parameter", &set_parameter<Class>, py::arg("name"), py::arg("value"));
    bound.def("weights_changed", &Class::weights_changed, py::call_guard<py::gil_scoped_release>());
    bound.def("frozen", [](Class& self) {
        std::vector<std::string> names;
        for (const Parameter* p : self.parameters())
            if (p->frozen && !p->statistic) names.push_back(p->name);
        return names;
    });
    bound.def(
        "set_frozen",
        [](Class& self, const std::vector<std::string>& names) {
            for (Parameter* p : self.parameters())
                p->frozen = p->statistic || std::find(names.begin(), names.end(), p->name) != names.end();
        },
        py::arg("names"));
}

template <class Class, class... Options>
void add_gradients(py::class_<Class, Options...>& bound) {
    const auto free = py::call_guard<py::gil_scoped_release>();
    bound.def("gradients", [](py::object self) {
        py::dict all;
        for (const Parameter* p : py::cast<Class&>(self).parameters())
            all[py::str(p->name)] = view(p->grad.data(), p->shape, self, true);
        return all;
    });
    bound.def(
        "zero_grad",
        [](Class& self) {
            const ForkLock lock(self.gradients_mutex(), [] {});  // zeros are whole, whatever was there
            zero_grad(self.parameters());
        },
        free);
    bound.def(
        "grad_squares", [](Class& self, double start) { return grad_squares(self.parameters(), start); },
        py::arg("start"), free);
    bound.def(
        "scale_grads", [](Class& self, double factor) { scale_grads(self.kernels(), self.parameters(), factor); },
        py::arg("factor"), free);
    bound.def(
        "clip_grad_value", [](Class& self, float limit) { clip_grad_value(self.kernels(), self.parameters(), limit); },
        py::arg("limit"), free);
    bound.def(
        "make_optimizer",
        [](Class& self, const OptimizerOptions& options) {
            return std::make_unique<Optimizer>(self.kernels(), self.parameters(), options);
        },
        py::arg("options"), py::keep_alive<0, 1>(), free);
}

// What every class with parameters(), weights_changed(), kernels() and gradients_mutex() offers Python.
template <class Class, class... Options>
void add_parameters(py::class_<Class, Options...>& bound) {
    add_values(bound);
    add_gradients(bound);
}

}  // namespace rnnfast::bindings
