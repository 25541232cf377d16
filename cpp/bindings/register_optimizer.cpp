#include <pybind11/stl.h>

#include "bindings/arrays.h"
#include "layers/optim.h"

namespace rnnfast::bindings {

namespace {

OptimizerKind kind_named(const std::string& name) {
    if (name == "sgd") return OptimizerKind::sgd;
    if (name == "adam") return OptimizerKind::adam;
    if (name == "adamw") return OptimizerKind::adamw;
    if (name == "dynamic") return OptimizerKind::dynamic;
    throw std::invalid_argument("unknown optimizer '" + name + "': expected one of sgd, adam, adamw");
}

}  // namespace

void register_optimizer(py::module_& m) {
    py::class_<OptimizerOptions>(m, "OptimizerOptions")
        .def(py::init([](const std::string& kind, double momentum, double dampening, bool nesterov, double beta1,
                         double beta2, double epsilon, double weight_decay) {
                 return OptimizerOptions{kind_named(kind), momentum,    dampening, nesterov, beta1, beta2,
                                         epsilon,          weight_decay};
             }),
             py::arg("kind"), py::arg("momentum") = 0.0, py::arg("dampening") = 0.0, py::arg("nesterov") = false,
             py::arg("beta1") = 0.9, py::arg("beta2") = 0.999, py::arg("epsilon") = 1e-8,
             py::arg("weight_decay") = 0.0);
    py::class_<Optimizer>(m, "Optimizer")
        .def("step", py::overload_cast<double, double, bool>(&Optimizer::step), py::arg("learning_rate"),
             py::arg("weight_decay"), py::arg("zero_grad") = false, py::call_guard<py::gil_scoped_release>())
        .def(
            "keep", [](Optimizer& o, size_t begin, size_t end) { o.keep({begin, end}); }, py::arg("begin"),
            py::arg("end"), "Holds and moves these elements alone, counted over all parameters; state() is then flat.")
        .def_property(
            "steps", [](const Optimizer& o) { return o.steps; },
            [](Optimizer& o, const std::vector<int64_t>& steps) {
                if (steps.size() != o.steps.size())
                    throw std::invalid_argument(std::to_string(steps.size()) + " counts of steps, expected " +
                                                std::to_string(o.steps.size()) + ": one per parameter");
                o.steps = steps;
            },
            "One per parameter, in the order of parameters().")
        .def("state", [](py::object self) {
            auto& optimizer = py::cast<Optimizer&>(self);
            py::dict all;
            for (size_t i = 0; i < optimizer.parameters().size(); ++i) {
                const Parameter& p = *optimizer.parameters()[i];
                const bool whole = optimizer.own[i].size() == p.size();
                const auto shape = whole ? p.shape : std::vector<size_t>{optimizer.own[i].size()};
                if (optimizer.first[i].size())
                    all[py::str("first." + p.name)] = view(optimizer.first[i].data(), shape, self, true);
                if (optimizer.second[i].size())
                    all[py::str("second." + p.name)] = view(optimizer.second[i].data(), shape, self, true);
            }
            return all;
        });
}

}  // namespace rnnfast::bindings
