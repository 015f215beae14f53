(* Balancedness of a homogeneous unit: kept to first order by descent (N1). *)
Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
From Lop Require Import network.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory.
Local Open Scope ring_scope.

(* z f'(z) = f(z): linear, ReLU, leaky ReLU *)
Section Balance.
Variables (R : comRingType) (V : eqType) (N : net R V) (rk : V -> nat).
Hypothesis dag : acyclic_by N rk.
Notation us := (units N).
Variables (w : weights R V) (u : V).
Hypothesis homogeneous : forall z, z * slp N u z = act N u z.
Hypothesis hidden : ~~ inp N u /\ ~~ out N u.
Definition balance (w : weights R V) : R :=
  \sum_(v <- us | edge N v u) w v u ^+ 2 - \sum_(v <- us | edge N u v) w u v ^+ 2.

Theorem N1_euler b : \sum_(v <- us | edge N v u) w v u * grad N w b v u = \sum_(v <- us | edge N u v) w u v * grad N w b u v.
Proof.
have [/negPf nin /negPf nout] := hidden.
under eq_bigr do rewrite gradE mulr_sumr; under [RHS]eq_bigr do rewrite gradE mulr_sumr.
rewrite exchange_big [RHS]exchange_big /=; apply: eq_bigr => s _.
transitivity (forward N w (xval s) u * backward N w s u).
  rewrite (eq_bigr (fun v => w v u * forward N w (xval s) v * (slope N w (xval s) u * backward N w s u))) => [|v _]; last by rewrite mulrA.
  rewrite -mulr_suml -sumvE -/(preact N w (xval s) u) mulrA; congr (_ * _).
  by rewrite /slope nin homogeneous (forwardE dag) nin.
rewrite (backwardE dag w s u) nout add0r mulr_sumr; apply: eq_bigr => v _; exact: mulrCA.
Qed.

Theorem N1_descent b eta (g := grad N w b) :
  balance (fun u v => w u v - eta * g u v) = balance w +
    eta ^+ 2 * (\sum_(v <- us | edge N v u) g v u ^+ 2 - \sum_(v <- us | edge N u v) g u v ^+ 2).
Proof.
have sq (P : pred V) (a f : V -> R) : \sum_(v <- us | P v) (a v - eta * f v) ^+ 2 =
    \sum_(v <- us | P v) a v ^+ 2 - (eta * \sum_(v <- us | P v) a v * f v) *+ 2 + eta ^+ 2 * \sum_(v <- us | P v) f v ^+ 2.
  rewrite mulr_sumr [eta ^+ 2 * _]mulr_sumr -sumrMnl -sumrB -big_split; apply: eq_bigr => v _ /=.
  by rewrite sqrrB exprMn mulrCA.
rewrite /balance !sq -/g N1_euler mulrBr; set p := (eta * _) *+ 2.
by rewrite opprD addrACA opprB (addrA (_ - p)) subrK.
Qed.
End Balance.
