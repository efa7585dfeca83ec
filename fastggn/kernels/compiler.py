"""What becomes machine code: the kernels that Python calls, and nothing on the way to them.

Numba turns every function that it meets into optimised machine code, links it into its callers,
and optimises these with all that they contain. A kernel with threads passes through three such
stages: the body of its loop, two wrappers around that, and the kernel. Here the code on the way
(a `Part`) is linked into kernels alone; the stages of a loop are not even optimised before
that, as the kernel around them is. A first training compiles in two thirds of the time.

All of this stands on parts of Numba that are private. Where one has moved, to import this module
is an `ImportError`, and `fastggn.kernels.jit` does without it.
"""

import pickle
from contextlib import contextmanager

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
from numba.core.compiler import CompilerBase, CompileResult, DefaultPassBuilder, compile_result
from numba.core.compiler_machinery import register_pass
from numba.core.environment import lookup_environment
from numba.core.runtime import rtsys
from numba.core.serialize import dumps
from numba.core.typed_passes import NativeLowering, NativeParforLowering

from fastggn.runtime.threads import LAYER

# What is used of these classes below, and in `fastggn.kernels.cache`.
_USED = {
    JITCodeLibrary: (
        "_ensure_finalized _final_module _finalize_dynamic_globals _finalize_final_module "
        "_finalized _get_module_for_linking _optimize_final_module _reload_init "
        "_verify_declare_only_symbols add_llvm_module enable_object_caching has_dynamic_globals"
    ),
    JITCPUCodegen: "create_library magic_tuple set_env",
    CompileResult: "_rebuild _reduce",
    DefaultPassBuilder: "define_nopython_pipeline",
    NativeLowering: "run_pass",
}


def _has(cls, name):
    """Return whether a class has an attribute, or one of its constructors sets it."""
    codes = (getattr(base.__init__, "__code__", None) for base in cls.__mro__)
    return hasattr(cls, name) or any(name in code.co_names for code in codes if code)


for _cls, _names in _USED.items():
    for _name in _names.split():
        if not _has(_cls, _name):
            raise ImportError(f"Numba's {_cls.__name__} has no {_name!r}")

# The names of the code libraries that Numba makes for the body of a parallel loop and for the two
# wrappers around it. Under names of another version these would be compiled as Numba does.
_STAGES = ("__numba_parfor_gufunc", "<numba.np.ufunc.wrappers._Gufunc", "parallelgufuncwrapper")
_ENVIRONMENT = "_ZN08NumbaEnv"
# The function that runs the body of a parallel loop on all workers: Numba's, and the one below.
_NUMBAS_LOOP, _LOOP = "numba_parallel_for", "fastggn_parallel_for"


def _make_loop():
    """Make the function that runs a parallel loop: by the layer, or all of it at once."""
    module, pointer = ir.Module(), ir.IntType(8).as_pointer()
    body = ir.FunctionType(ir.VoidType(), [pointer] * 4)
    loop = ir.FunctionType(ir.VoidType(), [pointer] * 5 + [ir.IntType(64)] * 3)
    function = ir.Function(module, loop, _LOOP)
    builder = ir.IRBuilder(function.append_basic_block())
    place = ir.Constant(ir.IntType(64), LAYER.address).inttoptr(ir.IntType(64).as_pointer())
    layer, zero = builder.load(place), ir.Constant(ir.IntType(64), 0)
    one = builder.icmp_unsigned("==", function.args[-1], ir.Constant(ir.IntType(64), 1))
    with builder.if_then(builder.or_(one, builder.icmp_unsigned("==", layer, zero))):
        serial = builder.bitcast(function.args[0], body.as_pointer())
        builder.call(serial, function.args[1:5])
        builder.ret_void()
    builder.call(builder.inttoptr(layer, loop.as_pointer()), function.args)
    builder.ret_void()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()
    llvm.add_symbol(_LOOP, engine.get_function_address(_LOOP))
    return engine


_engine = _make_loop()  # holds the code
LAYER.spared = True


class _WithoutEnvironments:
    """A code generator as a part sees it: there is no memory to write an environment's address to.

    Whoever links the part does that.
    """

    def __init__(self, codegen):
        self._codegen = codegen

    def __getattr__(self, name):
        return getattr(self._codegen, name)

    def set_env(self, name, environment):
        """Do nothing."""


class Part(JITCodeLibrary):
    """Code that is optimised and linked into others, but never turned into machine code itself."""

    @property
    def codegen(self):
        """The code generator, without access to memory."""
        return _WithoutEnvironments(self._codegen)

    def get_pointer_to_function(self, name):
        """Return 0: there is no machine code. A call through it ends the process."""
        self._ensure_finalized()
        return 0

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True


class _Stage(Part):
    """A part that is optimised with the one kernel that it is linked into."""

    def _optimize_final_module(self):
        pass

    def add_llvm_module(self, ll_module):
        """Add a module that runs its loop by our function."""
        for function in ll_module.functions:
            if function.name == _NUMBAS_LOOP:
                function.name = _LOOP
        super().add_llvm_module(ll_module)


def _library(cls, state):
    library = cls(state.targetctx.codegen(), state.func_id.func_qualname)
    library.enable_object_caching()
    return library


@contextmanager
def _stages_of_a_loop(codegen):
    """Make libraries of the stages of a parallel loop parts; Numba's compiler lock is held."""
    create = codegen.create_library

    def create_stage(name, **options):
        if name.startswith(_STAGES):
            return _Stage(codegen, name)
        return create(name, **options)

    codegen.create_library = create_stage
    try:
        yield
    finally:
        del codegen.create_library  # the attribute of this object, in front of the class's method


@register_pass(mutates_CFG=True, analysis_only=False)
class _LowerPart(NativeLowering):
    _name = "fastggn_lower_part"

    def run_pass(self, state):
        state.library = _library(Part, state)
        return super().run_pass(state)


@register_pass(mutates_CFG=True, analysis_only=False)
class _LowerKernel(NativeParforLowering):
    _name = "fastggn_lower_kernel"

    def run_pass(self, state):
        codegen = state.targetctx.codegen()
        state.library = _library(JITCodeLibrary, state)
        with _stages_of_a_loop(codegen):
            changed = super().run_pass(state)
        _set_environments(codegen, state.library)
        return changed


def _set_environments(codegen, library):
    """Write the addresses of the environments of linked parts to the kernel's memory."""
    for variable in library._final_module.global_variables:
        if variable.name.startswith(_ENVIRONMENT):
            environment = lookup_environment(variable.name)
            if environment is not None:
                codegen.set_env(variable.name, environment)


def _with_lowering(state, lowering):
    """Return Numba's own passes with another one in the place of its lowering."""
    manager = DefaultPassBuilder.define_nopython_pipeline(state)
    lowerings = (NativeLowering, NativeParforLowering)
    assert sum(p in lowerings for p, _ in manager.passes) == 1
    manager.passes = [(lowering if p in lowerings else p, text) for p, text in manager.passes]
    manager.finalize()
    return [manager]


class KernelCompiler(CompilerBase):
    """Compiles functions that Python calls, and what of theirs runs on all threads."""

    def define_pipelines(self):
        """Return the passes."""
        return _with_lowering(self.state, _LowerKernel)


class PartCompiler(CompilerBase):
    """Compiles functions that only kernels call."""

    def define_pipelines(self):
        """Return the passes."""
        return _with_lowering(self.state, _LowerPart)


def to_bytes(result):
    """Return what `from_bytes` takes to make a compiled function again."""
    part = isinstance(result.library, Part)
    return dumps((part, _reduce(result) if part else result._reduce()))


def from_bytes(target_context, payload):
    """Return a function as it was compiled."""
    # Code needs the symbols of Numba's runtime alone. The compiler's own declarations
    # (`target_context.refresh()`), 0.14 s in a process, are loaded by what compiles.
    rtsys.initialize(target_context)
    part, content = pickle.loads(payload)
    return (_rebuild if part else CompileResult._rebuild)(target_context, *content)


def _reduce(result):
    library = result.library
    code = library._get_module_for_linking().as_bitcode()
    description = result.fndesc
    description.typemap = description.calltypes = None  # need not be kept, and may not be picklable
    rest = result.environment, result.signature, result.reload_init
    return library.name, code, description, *rest


def _rebuild(target_context, name, code, fndesc, environment, signature, reload_init):
    for function in reload_init:
        function()
    library = Part(target_context.codegen(), name)
    library._final_module = llvm.parse_bitcode(code)
    library._reload_init.update(reload_init)
    library._finalize_final_module()
    return compile_result(
        target_context=target_context,
        typing_context=target_context.typing_context,
        library=library,
        environment=environment,
        entry_point=target_context.get_executable(library, fndesc, environment),
        fndesc=fndesc,
        signature=signature,
        objectmode=False,
        lifted=(),
        reload_init=reload_init,
        referenced_envs=(),
    )
