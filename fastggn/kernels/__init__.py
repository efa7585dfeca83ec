"""Compiled kernels: one file a formula (notation: Shen 2018; `docs/math.md`).

=================================================== ===================================
formula                                             file:function
=================================================== ===================================
forward z_l = W_l phi_{l-1}, phi_l = sigma(z_l)     forward.py:forward
second derivatives sigma''(z_l)                     forward.py:second_derivatives
activations sigma, sigma'                           activations.py:activate
activations sigma''                                 activations.py:activate_second
sensitivities Psi_l S                               sensitivities.py:sensitivities
gradient J^T u, u = the gradient of the loss        products.py:backward
J v                                                 products.py:products
J v of one output, from its sensitivities           products.py:scalar_products
J^T u                                               products.py:backward
d^2 F(theta + t v) / dt^2                           products.py:second_tangents
G block pairs Psi_l H Psi_k^T (x) phi phi^T         ggn_pairs.py:assemble
G rows, from chunks of S^T J                        ggn_rows.py:assemble_rows
expansion of the pairs to G (N, N)                  ggn_expand.py:expand
dual Gram J J^T                                     dual_gram.py:dual_gram
rows of S^T J                                       dual_gram.py:jacobian_rows
Hessian blocks HH_l, M_lk, D_lk                     hessian.py:hessian_panels
Hessian from its blocks, as G from pairs            ggn_pairs.py:assemble_stored
Hessian products H v                                hessian.py:hessian_products
Cholesky G = L L^T                                  cholesky.py:cholesky
TSQR A = Q R                                        tsqr.py:StreamingQR
block reflectors (I - V T V^T) C                    reflectors.py:reflect_columns
singular values by way of a band                    banded_svd.py:banded_svd
numerical rank                                      spectrum.py:numerical_rank
channels phi^c of derivatives by the inputs         channels.py:forward
channels: J^T u                                     channels.py:backward
channels: sensitivities Psi^c S                     channels.py:sensitivities
channels: G rows, sums of Khatri-Rao products       channel_rows.py:assemble_rows
channels: J v                                       channel_products.py:products
channels: (S^T J)^T u from sensitivities            channel_rows.py:transposed_rows
channels: d^2 / dt^2 along theta + t v              channel_products.py:second_tangents
channels: Hessian products H v                      channel_products.py:hessian_products
activations, four derivatives                       higher_activations.py:activate_higher
losses: softmax cross-entropy, its gradient         losses.py:softmax
losses: softmax, curvature factor S                 losses.py:softmax_factor
losses: logistic, its gradient                      losses.py:logistic
exp, tanh, ... over vectors                         vector_math.py:exp
=================================================== ===================================

Beside them: `jit`, `compiler`, `cache` (how kernels become code), `blas`, `counters` (what they
call), `layer_table` (how they see a network), `lq`, `row_spectrum` (spectra of rows in blocks).
"""
