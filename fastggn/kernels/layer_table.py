"""Columns of the integer table that describes a network to the kernels, one row a layer."""

W_OFF = 0  # offset of W_l in theta
UNITS = 1  # n_l
INPUTS = 2  # m_l: n_{l-1}, and 1 more with a free bias
CORE = 3  # n_{l-1}
PHI_IN = 4  # first row of phi_{l-1} in the workspace
PHI_OUT = 5  # first row of phi_l
Z_ROW = 6  # first row of z_l
D_ROW = 7  # first row of sigma'(z_l)
UNIT_ROW = 8  # units of the layers before this one: first row in psi, sigma'' and tangents
CODE = 9  # activation
ADDRESS = 10  # C function of a custom activation, or 0
GATE = 11  # first column in the gates, or -1
BIAS = 12  # first entry in the fixed biases, or -1
COLUMNS = 13
